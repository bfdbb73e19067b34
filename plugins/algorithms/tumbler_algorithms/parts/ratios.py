"""Importance ratios of tokens, chunks and whole trajectories, as geometric means. B rows, T tokens."""

from torch import Tensor

from tumbler.contracts.batch import TokenBatch
from tumbler_algorithms.parts.objective import RatioLevel
from tumbler_algorithms.parts.tokens import lengths, mean_by_level, spread, sum_by_chunk

__all__ = ["mean_log_ratio"]


def mean_log_ratio(log_ratio: Tensor, batch: TokenBatch, level: RatioLevel) -> Tensor:
    """Return the mean logarithm over what each token's ratio belongs to; [B, T] to [B, T], 0 outside of chunks."""
    if level == "token":
        return log_ratio
    return spread(mean_by_level(sum_by_chunk(log_ratio, batch), lengths(batch), batch, level), batch)
