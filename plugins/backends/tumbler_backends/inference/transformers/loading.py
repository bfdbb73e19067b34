"""Load a model folder and choose how to run it: packed if that gives the model's own logits, else plain."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

from tumbler.errors import InferenceError
from tumbler_backends.inference.tolerances import CANARY_TOLERANCES
from tumbler_backends.inference.transformers.packed import PACKED_ATTENTION, PackedRunner, register_packed_attention
from tumbler_backends.inference.transformers.plain import PlainRunner
from tumbler_backends.inference.transformers.runner import Runner, Stretch
from tumbler_backends.inference.transformers.slots import Slot

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

__all__ = ["choose_runner", "load_model", "token_bytes"]

_LOGGER = logging.getLogger(__name__)

_CANARY = ((0, 23, 23), (23, 23, 7), (46, 11, 11))
"""Where each sequence lies in the pool, with how much room, and its tokens: two in lanes, and one that is alone."""


def load_model(folder: Path, *, dtype: str, device: str) -> "PreTrainedModel":
    """Load the folder's causal model for inference; raise `InferenceError` if that fails."""
    try:
        disable_progress_bar()  # the run has a display of its own
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InferenceError(
            f"cannot load a causal language model from {folder}: {error}\n"
            "expected a folder in Hugging Face format: config.json and the weights as safetensors"
        ) from error
    model.requires_grad_(requires_grad=False)
    torch.nn.Module.to(model, torch.device(device))
    torch.nn.Module.eval(model)
    return model


def token_bytes(model: "PreTrainedModel") -> int:
    """Return the memory that one token's keys and values take."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(config.num_hidden_layers * heads * size * 2 * model.dtype.itemsize)


def choose_runner(model: "PreTrainedModel", pool_tokens: int) -> Runner:
    """Return a packed runner if it reproduces the model's logits on a canary, else a plain one."""
    reason = _why_not_packed(model)
    if not reason:
        return PackedRunner(model, pool_tokens)
    _LOGGER.warning("%s is served one request at a time, without packing: %s", type(model).__name__, reason)
    return PlainRunner(model)


def _why_not_packed(model: "PreTrainedModel") -> str:
    """Return why the model cannot be run packed, or nothing; leaves the right attention set."""
    if not getattr(model, "_supports_attention_backend", False):
        return "its attention cannot be exchanged"
    if _rope_depends_on_length(model.config.get_text_config()):
        return "its position embedding depends on the longest sequence of the batch"
    own_attention = model.config._attn_implementation or "eager"
    sequences = _canary(model.config.get_text_config().vocab_size)
    plain = torch.stack([model(torch.tensor([ids], device=model.device)).logits[0, -1] for ids in sequences])
    register_packed_attention()
    model.set_attn_implementation(PACKED_ATTENTION)
    try:
        difference = (_packed_canary(model, sequences) - plain.float().log_softmax(-1)).abs().max().item()
    except Exception as error:  # noqa: BLE001  # guards against the model's own code, which may want other arguments
        model.set_attn_implementation(own_attention)
        return f"packed attention failed with {type(error).__name__}: {error}"
    if difference <= CANARY_TOLERANCES[str(model.dtype).removeprefix("torch.")]:
        return ""
    model.set_attn_implementation(own_attention)
    return f"packed attention is off by {difference:.2g} nats"


def _rope_depends_on_length(config: "PreTrainedConfig") -> bool:
    return any(kind in str(getattr(config, "rope_parameters", "")) for kind in ("'dynamic'", "'longrope'"))


def _canary(vocabulary: int) -> list[list[int]]:
    return [[(7 * position + 3 * length) % vocabulary for position in range(length)] for _, _, length in _CANARY]


def _packed_canary(model: "PreTrainedModel", sequences: Sequence[list[int]]) -> Tensor:
    """Return [R, V] log-probabilities after each sequence, computed in three steps: most, some, the last token."""
    runner = PackedRunner(model, sum(room for _, room, _ in _CANARY))
    slots = [Slot(start, room) for start, room, _ in _CANARY]
    start, logits = 0, torch.empty(0)
    for left in (4, 1, 0):
        stretches = []
        for slot, ids in zip(slots, sequences, strict=True):
            begin = len(ids) - start if start else 0
            stretches.append(Stretch(slot, ids[: len(ids) - left], begin, wants_logits=left == 0))
        logits = runner.forward(stretches)
        start = left
    return logits.float().log_softmax(-1)
