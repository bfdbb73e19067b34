"""Compute ragged requests as one packed sequence, keys and values in a preallocated pool.

All new tokens of a step lie in one row, so that no linear layer computes padding. Only attention looks at
single requests: it is called for each over exactly the stretch of the pool that the request holds. On a
processor that costs the same as one padded call over all of them, and nothing is copied or masked.

Axes: T new tokens of the step, H query heads, K key-value heads, D head size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from tumbler_backends.inference.transformers.runner import Stretch
from tumbler_backends.inference.transformers.slots import Slot

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["PACKED_ATTENTION", "PackedRunner", "register_packed_attention"]

PACKED_ATTENTION = "tumbler_packed"
"""The name under which transformers finds the attention of this module."""


@dataclass
class _Pool:
    """One layer's keys and values: a token's heads lie `capacity` of its slot apart."""

    keys: Tensor
    values: Tensor


@dataclass
class PackedStep:
    """One forward pass, as the attention of every layer sees it."""

    stretches: Sequence[Stretch]
    sizes: list[int]
    """New tokens of each stretch; they add up to T."""
    pools: dict[int, _Pool]
    pool_tokens: int
    rows: Tensor | None = None
    """[K · T] where in the pools the new keys and values go; the same for all layers."""
    masks: dict[tuple[int, int, int], Tensor] = field(default_factory=dict)
    """By (new tokens, tokens before them, window)."""


class PackedRunner:
    """Runs a model whose attention can be exchanged through transformers' attention interface."""

    def __init__(self, model: "PreTrainedModel", pool_tokens: int) -> None:
        """Use the model, set to `PACKED_ATTENTION`, with room for `pool_tokens` tokens."""
        self._model = model
        self._pool_tokens = pool_tokens
        self._pools: dict[int, _Pool] = {}

    def forward(self, stretches: Sequence[Stretch]) -> Tensor:
        """Compute the stretches and return [R, V] logits for the R of them that want theirs, in order."""
        token_ids: list[int] = []
        positions: list[int] = []
        sizes: list[int] = []
        wanted: list[int] = []
        for stretch in stretches:
            end = len(stretch.token_ids)
            token_ids += stretch.token_ids[stretch.start :]
            positions += range(stretch.start, end)
            sizes.append(end - stretch.start)
            if stretch.wants_logits:
                wanted.append(len(token_ids) - 1)
        device = self._model.device
        output = self._model(
            input_ids=torch.tensor([token_ids], device=device),
            position_ids=torch.tensor([positions], device=device),
            use_cache=False,
            logits_to_keep=torch.tensor(wanted, device=device, dtype=torch.long),
            packed_step=PackedStep(stretches, sizes, self._pools, self._pool_tokens),
        )
        logits: Tensor = output.logits[0]
        return logits

    def copy(self, source: Slot, target: Slot, tokens: int) -> None:
        """Copy the keys and values of the source's first tokens."""
        for pool in self._pools.values():
            for tensor in (pool.keys, pool.values):
                heads = tensor.shape[0] // self._pool_tokens
                _slot_view(tensor, target, heads, tokens).copy_(_slot_view(tensor, source, heads, tokens))

    def cut(self, slot: Slot, tokens: int) -> int:
        """Return `tokens`: what lies behind them is overwritten."""
        return tokens

    def forget(self) -> None:
        """Do nothing: what no slot holds is never read."""


def register_packed_attention() -> None:
    """Make `PACKED_ATTENTION` known to transformers; safe to call again."""
    AttentionInterface.register(PACKED_ATTENTION, _packed_attention)


def _packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packed_step: PackedStep,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **options: object,
) -> tuple[Tensor, None]:
    """Store the new keys and values and attend: query [1, H, T, D], key and value [1, K, T, D]."""
    _refuse_what_is_not_done(attention_mask, options)
    heads = key.shape[1]
    pool = _store(packed_step, int(getattr(module, "layer_idx", 0)), key, value)
    outputs = []
    for stretch, part in zip(packed_step.stretches, torch.split(query, packed_step.sizes, dim=2), strict=True):
        new, end = part.shape[2], len(stretch.token_ids)
        begin = max(0, end - new + 1 - sliding_window) if sliding_window else 0
        keys = _slot_view(pool.keys, stretch.slot, heads, end)[:, :, begin:]
        values = _slot_view(pool.values, stretch.slot, heads, end)[:, :, begin:]
        if new == 1:
            folded = part.reshape(1, heads, -1, part.shape[3])  # the queries that share a key-value head
            attended = scaled_dot_product_attention(folded, keys, values, scale=scaling)
            outputs.append(attended.reshape(1, -1, 1, attended.shape[3]))
            continue
        shared = query.shape[1] // heads
        if shared > 1:
            keys, values = keys.repeat_interleave(shared, dim=1), values.repeat_interleave(shared, dim=1)
        mask = _mask(packed_step, new, end - begin - new, sliding_window or 0, query.device)
        outputs.append(
            scaled_dot_product_attention(part, keys, values, attn_mask=mask, is_causal=mask is None, scale=scaling)
        )
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


def _refuse_what_is_not_done(attention_mask: Tensor | None, options: dict[str, object]) -> None:
    special = [name for name in ("softcap", "s_aux", "position_bias") if options.get(name) is not None]
    if attention_mask is not None or special:
        raise NotImplementedError(f"packed attention cannot do {special or 'a mask'}")


def _store(step: PackedStep, layer: int, key: Tensor, value: Tensor) -> _Pool:
    """Write the new keys and values of one layer into its pool, which the first step makes."""
    heads = key.shape[1]
    if layer not in step.pools:
        shape = (step.pool_tokens * heads,)
        step.pools[layer] = _Pool(key.new_empty(*shape, key.shape[3]), value.new_empty(*shape, value.shape[3]))
    if step.rows is None:
        step.rows = _rows(step.stretches, heads, key.device)
    pool = step.pools[layer]
    pool.keys.index_copy_(0, step.rows, key[0].reshape(-1, key.shape[3]))
    pool.values.index_copy_(0, step.rows, value[0].reshape(-1, value.shape[3]))
    return pool


def _rows(stretches: Sequence[Stretch], heads: int, device: torch.device) -> Tensor:
    """Return [K · T] pool rows of the new tokens, heads first."""
    first: list[int] = []
    apart: list[int] = []
    for stretch in stretches:
        base, end = stretch.slot.start * heads, len(stretch.token_ids)
        first += range(base + stretch.start, base + end)
        apart += [stretch.slot.capacity] * (end - stretch.start)
    head = torch.arange(heads, device=device)[:, None]
    return (torch.tensor(first, device=device) + head * torch.tensor(apart, device=device)).flatten()


def _slot_view(pool: Tensor, slot: Slot, heads: int, tokens: int) -> Tensor:
    """Return the slot's first tokens, [1, K, tokens, D], as a view of the pool."""
    size = pool.shape[1]
    apart = slot.capacity * size
    return pool.as_strided((1, heads, tokens, size), (heads * apart, apart, size, 1), slot.start * heads * size)


def _mask(step: PackedStep, new: int, before: int, window: int, device: torch.device) -> Tensor | None:
    """Return the causal mask [new, before + new], or None where the kernel's own does."""
    if before == 0 and (window == 0 or new <= window):
        return None
    key = (new, before, window)
    if key not in step.masks:
        mask = torch.ones(new, before + new, dtype=torch.bool, device=device).tril(before)
        step.masks[key] = mask.triu(before + 1 - window) if window else mask
    return step.masks[key]
