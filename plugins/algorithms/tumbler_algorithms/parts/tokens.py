"""Sums over chunks and trajectories of a token batch, and back. B rows, T tokens, C chunks, N trajectories.

Sums are taken in float64: a chunk's log-ratio is a small difference of long sums. No step depends on the
data for its shape or its course, so that losses made of these compile into one graph.
"""

import torch
from torch import Tensor

from tumbler.contracts.batch import TokenBatch

__all__ = ["by_trajectory", "inside", "lengths", "log_ratio", "spread", "sum_by_chunk", "sum_by_trajectory"]


def inside(batch: TokenBatch) -> Tensor:
    """Return which tokens are trained; [B, T] bool."""
    return batch.chunk_of_token >= 0


def lengths(batch: TokenBatch) -> Tensor:
    """Return |c_k|, the tokens of each chunk that the batch holds; [C] float64."""
    chunks = batch.chunk_credit.shape[0]
    return torch.bincount(_slot(batch).flatten(), minlength=chunks + 1)[:chunks].double()


def sum_by_chunk(values: Tensor, batch: TokenBatch) -> Tensor:
    """Return the sum over each chunk's tokens, whatever stands elsewhere; [B, T] to [C] float64."""
    chunks = batch.chunk_credit.shape[0]
    sums = torch.zeros(chunks + 1, dtype=torch.float64, device=values.device)
    trained = values.double().masked_fill(~inside(batch), 0.0)
    return sums.index_add(0, _slot(batch).flatten(), trained.flatten())[:chunks]


def sum_by_trajectory(per_chunk: Tensor, batch: TokenBatch) -> Tensor:
    """Return the sum over each trajectory's chunks; [C] to [N] float64."""
    sums = torch.zeros(batch.reward.shape[0], dtype=torch.float64, device=per_chunk.device)
    return sums.index_add(0, batch.chunk_trajectory, per_chunk.double())


def by_trajectory(per_trajectory: Tensor, batch: TokenBatch) -> Tensor:
    """Return each chunk's share of a value per trajectory; [N] to [C]."""
    return per_trajectory[batch.chunk_trajectory]


def spread(per_chunk: Tensor, batch: TokenBatch) -> Tensor:
    """Return each token's share of a value per chunk, 0 outside of chunks; [C] to [B, T]."""
    return torch.cat([per_chunk, per_chunk.new_zeros(1)])[_slot(batch)]


def log_ratio(above: Tensor, below: Tensor, batch: TokenBatch) -> Tensor:
    """Return above - below in float64, 0 outside of chunks whatever stood there; [B, T]."""
    # Masked before any arithmetic: 0 times what stands elsewhere, NaN or infinity, would not be 0.
    return (above.double() - below.double()).masked_fill(~inside(batch), 0.0)


def _slot(batch: TokenBatch) -> Tensor:
    """Return each token's chunk; tokens outside of chunks go to a slot past the last one; [B, T] int64."""
    return batch.chunk_of_token.masked_fill(batch.chunk_of_token < 0, batch.chunk_credit.shape[0])
