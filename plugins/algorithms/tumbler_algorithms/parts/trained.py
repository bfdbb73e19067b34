"""The trained tokens of a batch alone, in one row: what losses per token compute with. Knows no algorithm.

B rows, T tokens, S trained tokens. What a batch holds besides, prompts and observations, padding and replayed chunks,
is left behind once, so that nothing is masked, or computed for nothing, at every step of a loss.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from tumbler.contracts.batch import TokenBatch

__all__ = ["TrainedTokens", "trained_tokens", "whole"]

_PER_TOKEN = (
    "policy_logprobs",
    "old_logprobs",
    "behaviour_logprobs",
    "reference_logprobs",
    "entropies",
    "values",
    "old_values",
)


@dataclass(frozen=True, kw_only=True)
class TrainedTokens(TokenBatch):
    """A batch of one row, [1, S]: a chunk's tokens follow each other as they did in theirs.

    What no loss per token reads is left out: `token_ids` and `imitation_mask` are [1, 0].
    """

    whole: bool = True
    """Whether all of them still are trained: no mask has taken any out."""


def trained_tokens(batch: TokenBatch) -> TrainedTokens:
    """Return the trained tokens of a batch; the gradient of what was taken, 0 elsewhere, goes back to the batch.

    Replayed chunks are not among them, so that the fields of imitation are None.
    """
    position = (batch.chunk_of_token.flatten() >= 0).nonzero().squeeze(1)
    taken: dict[int, Tensor] = {}

    def take(values: Tensor) -> Tensor:
        # Backends may give one tensor for two fields; it is taken once.
        if id(values) not in taken:
            taken[id(values)] = _Take.apply(values, position)  # type: ignore[no-untyped-call]  # torch gives no type
        return taken[id(values)]

    kept = {field.name: getattr(batch, field.name) for field in fields(TokenBatch)}
    kept |= {name: take(kept[name]) for name in _PER_TOKEN if kept[name] is not None}
    kept |= {name: None for name in kept if name.startswith("imitation_")}
    kept |= {name: getattr(batch, name).new_empty(1, 0) for name in ("token_ids", "imitation_mask")}
    return TrainedTokens(**{**kept, "chunk_of_token": take(batch.chunk_of_token)})


def whole(batch: TokenBatch) -> bool:
    """Return whether every token of the batch is known to be trained."""
    return isinstance(batch, TrainedTokens) and batch.whole


class _Context(FunctionCtx):
    """What the function below keeps from forward to backward."""

    saved_tensors: tuple[Tensor, ...]
    shape: torch.Size


class _Take(torch.autograd.Function):
    """An `index_select` of all rows as one, [B, T] to [1, S]. No place is taken twice, so backward need not add."""

    @staticmethod
    def forward(ctx: _Context, values: Tensor, position: Tensor) -> Tensor:
        ctx.save_for_backward(position)
        ctx.shape = values.shape
        return values.flatten().index_select(0, position)[None]

    @staticmethod
    def backward(ctx: _Context, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (position,) = ctx.saved_tensors
        gradient = grad_outputs[0]
        return gradient.new_zeros(ctx.shape.numel()).scatter_(0, position, gradient[0]).view(ctx.shape), None
