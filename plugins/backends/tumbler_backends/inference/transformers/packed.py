"""Compute ragged requests as one packed sequence, keys and values in a preallocated pool.

All new tokens of a step lie in one row, so that no linear layer computes padding. Only attention looks at
single requests: it is called once for those that lie in lanes, and for each other one over exactly the stretch of
the pool that the request holds. Nothing is copied.

Axes: T new tokens of the step, H query heads, K key-value heads, D head size, R requests in L lanes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from tumbler_backends.inference.transformers.lanes import Lanes, find_lanes
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
    device: torch.device
    rows: Tensor | None = None
    """[K · T] where in the pools the new keys and values go; the same for all layers."""
    masks: dict[tuple[int, int, int], Tensor] = field(default_factory=dict)
    """By (new tokens, tokens before them, window)."""
    in_step: bool = True
    """Whether requests may share a call: what lies in the pool behind a request's tokens is masked, yet read."""

    @cached_property
    def lanes(self) -> list[Lanes]:
        """Return the requests that share calls."""
        return find_lanes(self.stretches, self.sizes, self.device) if self.in_step else []

    @cached_property
    def alone(self) -> list[tuple[Stretch, int, int]]:
        """Return the other stretches, each with where its new tokens begin and end among those of the step."""
        shared = {index for lanes in self.lanes for index in lanes.members}
        left, begin = [], 0
        for index, (stretch, size) in enumerate(zip(self.stretches, self.sizes, strict=True)):
            if index not in shared:
                left.append((stretch, begin, begin + size))
            begin += size
        return left


class PackedRunner:
    """Runs a model whose attention can be exchanged through transformers' attention interface."""

    def __init__(self, model: "PreTrainedModel", pool_tokens: int) -> None:
        """Use the model, set to `PACKED_ATTENTION`, with room for `pool_tokens` tokens."""
        self._model = model
        self._pool_tokens = pool_tokens
        self._pools: dict[int, _Pool] = {}
        self._finite = True
        """Whether the pools hold no NaN, which would spoil a sum although it is masked."""

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
            packed_step=PackedStep(stretches, sizes, self._pools, self._pool_tokens, device, in_step=self._finite),
        )
        logits: Tensor = output.logits[0]
        # Where a state is not finite, no logit is.
        self._finite = self._finite and not bool(logits[:, 0].isnan().any())
        return logits

    def score(self, token_ids: Sequence[int]) -> Tensor:
        """Return [T, V] logits after each of the sequence's tokens, computed in a pool of its own."""
        count, device = len(token_ids), self._model.device
        alone = [Stretch(Slot(0, count), list(token_ids), 0, wants_logits=True)]
        output = self._model(
            input_ids=torch.tensor([token_ids], device=device),
            position_ids=torch.arange(count, device=device)[None],
            use_cache=False,
            packed_step=PackedStep(alone, [count], {}, count, device, in_step=False),
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
        """Begin with clean pools if the old weights have left numbers in them that are not finite."""
        if not self._finite:
            self._pools.clear()
            self._finite = True


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
    attended = query.new_empty(query.shape[2], query.shape[1], value.shape[3])
    for lanes in packed_step.lanes:
        attended.index_copy_(0, lanes.tokens, _attend_in_lanes(lanes, query, pool, heads, scaling, sliding_window or 0))
    for stretch, begin, end in packed_step.alone:
        part = query[:, :, begin:end]
        attended[begin:end] = _attend_alone(
            packed_step, stretch, part, pool, heads, scaling, sliding_window or 0
        ).transpose(0, 1)
    return attended[None], None


def _attend_in_lanes(
    lanes: Lanes, query: Tensor, pool: _Pool, heads: int, scaling: float | None, window: int
) -> Tensor:
    """Return [R, H, D] of the lanes' requests, given all queries [1, H, T, D]."""
    size = query.shape[3]
    folded = query[0].index_select(1, lanes.tokens).transpose(0, 1).reshape(len(lanes.members), heads, -1, size)
    queries = folded
    if lanes.count > len(lanes.members):
        queries = folded.new_zeros(lanes.count, *folded.shape[1:]).index_copy_(0, lanes.places, folded)
    keys, values = _lanes_view(pool.keys, lanes, heads), _lanes_view(pool.values, lanes, heads)
    mask = lanes.mask(window, query)
    attended = scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=scaling)
    if lanes.count > len(lanes.members):
        attended = attended.index_select(0, lanes.places)
    return attended.reshape(len(lanes.members), -1, attended.shape[3])


def _attend_alone(
    step: PackedStep, stretch: Stretch, query: Tensor, pool: _Pool, heads: int, scaling: float | None, window: int
) -> Tensor:
    """Return [H, T, D] of one request, given its queries [1, H, T, D]."""
    new, end = query.shape[2], len(stretch.token_ids)
    begin = max(0, end - new + 1 - window) if window else 0
    keys = _slot_view(pool.keys, stretch.slot, heads, end)[:, :, begin:]
    values = _slot_view(pool.values, stretch.slot, heads, end)[:, :, begin:]
    if new == 1:
        folded = query.reshape(1, heads, -1, query.shape[3])  # the queries that share a key-value head
        attended = scaled_dot_product_attention(folded, keys, values, scale=scaling)
        return attended.reshape(-1, 1, attended.shape[3])
    shared = query.shape[1] // heads
    if shared > 1:
        keys, values = keys.repeat_interleave(shared, dim=1), values.repeat_interleave(shared, dim=1)
    mask = _mask(step, new, end - begin - new, window)
    return scaled_dot_product_attention(query, keys, values, attn_mask=mask, is_causal=mask is None, scale=scaling)[0]


def _refuse_what_is_not_done(attention_mask: Tensor | None, options: dict[str, object]) -> None:
    special = [name for name in ("softcap", "s_aux", "position_bias") if options.get(name) is not None]
    if attention_mask is not None or special:
        raise NotImplementedError(f"packed attention cannot do {special or 'a mask'}")


def _store(step: PackedStep, layer: int, key: Tensor, value: Tensor) -> _Pool:
    """Write the new keys and values of one layer into its pool, which the first step makes."""
    heads = key.shape[1]
    if layer not in step.pools:
        rows = step.pool_tokens * heads
        step.pools[layer] = _Pool(_clean(key, rows), _clean(value, rows))
    if step.rows is None:
        step.rows = _rows(step.stretches, heads, key.device)
    pool = step.pools[layer]
    pool.keys.index_copy_(0, step.rows, key[0].reshape(-1, key.shape[3]))
    pool.values.index_copy_(0, step.rows, value[0].reshape(-1, value.shape[3]))
    return pool


def _clean(like: Tensor, rows: int) -> Tensor:
    """Return [rows, D] zeros, which on a processor take no memory before they are written to."""
    if like.device.type != "cpu":
        return like.new_zeros(rows, like.shape[3])
    memory = numpy.zeros(rows * like.shape[3] * like.dtype.itemsize, dtype=numpy.uint8)
    return torch.from_numpy(memory).view(like.dtype).view(rows, like.shape[3])


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


def _lanes_view(pool: Tensor, lanes: Lanes, heads: int) -> Tensor:
    """Return all lanes up to the longest request, [L, K, longest, D], as a view of the pool."""
    size = pool.shape[1]
    apart = lanes.size * size
    shape, strides = (lanes.count, heads, lanes.longest, size), (heads * apart, apart, size, 1)
    return pool.as_strided(shape, strides, lanes.first * heads * size)


def _mask(step: PackedStep, new: int, before: int, window: int) -> Tensor | None:
    """Return the causal mask [new, before + new], or None where the kernel's own does."""
    if before == 0 and (window == 0 or new <= window):
        return None
    key = (new, before, window)
    if key not in step.masks:
        mask = torch.ones(new, before + new, dtype=torch.bool, device=step.device).tril(before)
        step.masks[key] = mask.triu(before + 1 - window) if window else mask
    return step.masks[key]
