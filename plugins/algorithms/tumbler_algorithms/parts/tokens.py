"""Sums over chunks and trajectories of a token batch, and back. B rows, T tokens, C chunks, N trajectories.

Sums are taken in float64: a chunk's log-ratio is a small difference of long sums. What is [B, T] keeps the
batch's own precision. No step depends on the data for its shape or its course, so that losses made of these
compile into one graph. What stands outside of chunks, NaN or infinity too, changes neither sums nor gradients.
"""

from typing import Literal

import torch
from torch import Tensor

from tumbler.contracts.batch import TokenBatch
from tumbler_algorithms.parts.segments import segment_sums, spread_segments
from tumbler_algorithms.parts.trained import whole

__all__ = [
    "by_trajectory",
    "count",
    "inside",
    "lengths",
    "lengths_and_sums",
    "log_ratio",
    "mean_by_level",
    "only_inside",
    "spread",
    "sum_by_chunk",
    "sum_by_trajectory",
    "total",
]


def inside(batch: TokenBatch) -> Tensor:
    """Return which tokens are trained; [B, T] bool."""
    return batch.chunk_of_token >= 0


def only_inside(values: Tensor, batch: TokenBatch) -> Tensor:
    """Return the values, 0 outside of chunks whatever stood there; [B, T]."""
    return values if whole(batch) else values.masked_fill(~inside(batch), 0.0)


def count(batch: TokenBatch) -> Tensor:
    """Return how many tokens are trained; []."""
    if whole(batch):
        return torch.tensor(batch.chunk_of_token.numel(), device=batch.chunk_of_token.device)
    return inside(batch).sum()


def lengths(batch: TokenBatch) -> Tensor:
    """Return |c_k|, the tokens of each chunk that the batch holds; [C] float64."""
    if whole(batch):
        return batch.chunk_of_token.flatten().bincount(minlength=len(batch.chunk_credit)).double()
    return lengths_and_sums(batch)[0]


def sum_by_chunk(values: Tensor, batch: TokenBatch) -> Tensor:
    """Return the sum over each chunk's tokens; [B, T] to [C] float64."""
    return segment_sums(batch.chunk_of_token, batch.chunk_credit.shape[0], values)[0]


def lengths_and_sums(batch: TokenBatch, *values: Tensor) -> tuple[Tensor, ...]:
    """Return |c_k|, and the sum over each chunk's tokens of each tensor; [B, T] each to [C] float64 each.

    One call is faster than one for each tensor. All sums carry a gradient if one of the tensors does.
    """
    one = torch.ones((), dtype=torch.float64, device=batch.chunk_of_token.device).expand(batch.chunk_of_token.shape)
    sums = segment_sums(batch.chunk_of_token, batch.chunk_credit.shape[0], one, *values)
    return sums[0].detach(), *sums[1:].unbind()


def sum_by_trajectory(per_chunk: Tensor, batch: TokenBatch) -> Tensor:
    """Return the sum over each trajectory's chunks; [C] to [N] float64."""
    sums = torch.zeros(batch.reward.shape[0], dtype=torch.float64, device=per_chunk.device)
    return sums.index_add(0, batch.chunk_trajectory, per_chunk.double())


def by_trajectory(per_trajectory: Tensor, batch: TokenBatch) -> Tensor:
    """Return each chunk's share of a value per trajectory; [N] to [C]."""
    return per_trajectory[batch.chunk_trajectory]


def mean_by_level(sums: Tensor, length: Tensor, batch: TokenBatch, level: Literal["chunk", "trajectory"]) -> Tensor:
    """Return the mean over each chunk's tokens, or all of its trajectory's, of what has these sums; [C], given [C]."""
    if level == "trajectory":
        sums = by_trajectory(sum_by_trajectory(sums, batch), batch)
        length = by_trajectory(sum_by_trajectory(length, batch), batch)
    return sums / length.clamp(min=1.0)


def spread(per_chunk: Tensor, batch: TokenBatch) -> Tensor:
    """Return each token's share of a value per chunk, 0 outside of chunks; [C] to [B, T].

    Floating-point values come in the batch's precision.
    """
    if per_chunk.is_floating_point():
        per_chunk = per_chunk.to(batch.policy_logprobs.dtype)
    return spread_segments(per_chunk, batch.chunk_of_token, everywhere=whole(batch))


def log_ratio(above: Tensor, below: Tensor, batch: TokenBatch) -> Tensor:
    """Return above - below, 0 outside of chunks whatever stood there; [B, T]."""
    # Masked before any arithmetic on it: 0 times what stands elsewhere, NaN or infinity, would not be 0.
    return only_inside(above - below, batch)


def total(values: Tensor) -> Tensor:
    """Return the sum of everything, each row's in single precision or better, theirs in float64; [B, T] to []."""
    # A sum of single values straight to float64 first copies all of them, which takes far longer than the sum.
    return values.sum(dim=1, dtype=torch.promote_types(values.dtype, torch.float32)).sum(dtype=torch.float64)
