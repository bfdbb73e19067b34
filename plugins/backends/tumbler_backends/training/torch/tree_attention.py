"""Attention over packed rows, for Hugging Face models whose attention can be chosen. N packed tokens, H heads.

Every layer but attention treats each token alone, so that nothing else of a model has to know of runs.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from tumbler_backends.training.torch.packed import Packed, pack

__all__ = ["enable_packing", "packed_inputs"]

NAME = "tumbler_tree"
LAYERS = frozenset(("full_attention", "sliding_attention"))
TRIAL = (8, 32)
"""Rows that a model is tried with, and their tokens; they have half of them in common."""


def packed_inputs(packed: Packed) -> dict[str, Any]:
    """Return what to call a model with after `enable_packing`."""
    return {
        "input_ids": packed.token_ids,
        "position_ids": packed.positions,
        # A mask of four axes is handed on as it is, instead of one of [N, N] being made; nobody reads it.
        "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=packed.token_ids.device),
        "packed": packed,
    }


@torch.no_grad()
def enable_packing(model: PreTrainedModel) -> bool:
    """Let the model compute packed rows and return whether it can; padded rows it computes as before.

    It cannot if a layer sees other tokens by anything but PyTorch's attention, causal or with a sliding
    window. The model's configuration says so, or else a trial.
    """
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    if config._attn_implementation != "sdpa" or (kinds and not LAYERS.issuperset(kinds)):
        return False
    token_ids = torch.randint(config.vocab_size, TRIAL, generator=torch.Generator().manual_seed(0)).to(model.device)
    token_ids[:, : TRIAL[1] // 2] = token_ids[0, : TRIAL[1] // 2]
    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    try:
        expected = model(input_ids=token_ids, use_cache=False).logits
        model.set_attn_implementation(NAME)
        able = _same(model, token_ids, expected)
    except (TypeError, ValueError, RuntimeError, LookupError):
        # The model's own code, which may know neither the argument nor the layout, nor as many positions.
        able = False
    if not able:
        model.set_attn_implementation("sdpa")
    return able


def _same(model: PreTrainedModel, token_ids: Tensor, expected: Tensor) -> bool:
    """Return whether padded and packed rows give the expected logits, and every window was asked for."""
    packed = pack(token_ids.tolist(), device=token_ids.device)
    assert packed is not None, "half of each row is common"
    found = model(**packed_inputs(packed), use_cache=False).logits[0, packed.of_rows]
    padded = model(input_ids=token_ids, use_cache=False).logits
    windows = {window for bundle in packed.bundles for window, _ in bundle.masks}
    tolerance = 5e-2 if model.dtype in (torch.bfloat16, torch.float16) else 1e-3
    return windows == _windows(model) and all(
        float((each - expected).float().norm()) <= tolerance * float(expected.float().norm())
        for each in (found, padded)
    )


def _windows(model: PreTrainedModel) -> set[int | None]:
    """Return the sliding windows that the layers must ask for, None for a layer without."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if not kinds:
        return {window}
    return {window if kind == "sliding_attention" else None for kind in kinds}


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    packed: Packed | None = None,
    sliding_window: int | None = None,
    **settings: Any,  # noqa: ANN401 - whatever a model gives its attention
) -> tuple[Tensor, None]:
    """Return [B, T, H, D], or [1, N, H, D] of packed rows, from query, key and value of [B, H, T, D]."""
    if packed is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, sliding_window=sliding_window, **settings
        )
    queries, keys, values = (each[0].transpose(0, 1) for each in (query, key, value))
    outputs = []
    for bundle in packed.bundles:
        output, _ = sdpa_attention_forward(
            module,
            _runs(queries, bundle.own),
            _rows(keys, bundle.prefix, bundle.own),
            _rows(values, bundle.prefix, bundle.own),
            bundle.mask(sliding_window, query.dtype),
            **settings,
        )
        outputs.append(output.flatten(0, 1))
    return torch.cat(outputs).index_select(0, packed.cells)[None], None


def _runs(tokens: Tensor, own: Tensor) -> Tensor:
    """Return [M, H, W, D] from tokens [N, H, D]."""
    return tokens.index_select(0, own.flatten()).view(*own.shape, *tokens.shape[1:]).transpose(1, 2)


def _rows(tokens: Tensor, prefix: Tensor, own: Tensor) -> Tensor:
    """Return [M, H, P + W, D] from tokens [N, H, D]: the common prefix before each run."""
    runs = _runs(tokens, own)
    if not len(prefix):
        return runs
    before = tokens.index_select(0, prefix).transpose(0, 1)
    return torch.cat([before.expand(len(own), -1, -1, -1), runs], dim=2)
