"""Train-infer correction: masks and weights by the gap between the two engines, π_old/μ. Knows no algorithm.

B rows, T tokens, C chunks, N trajectories. It is orthogonal to what an algorithm makes of staleness, π_θ/π_old:

    correction = correct(batch, settings.correction)
    batch = correction.batch
    loss = total(token_losses * correction.weight * spread(scale, batch))
"""

import math
from dataclasses import dataclass, replace

from torch import Tensor

from tumbler.contracts.batch import TokenBatch
from tumbler_algorithms.parts.metrics import Pairs
from tumbler_algorithms.parts.settings import CorrectionSettings, Level
from tumbler_algorithms.parts.tokens import (
    count,
    inside,
    lengths_and_sums,
    log_ratio,
    mean_by_level,
    only_inside,
    spread,
    total,
)
from tumbler_algorithms.parts.trained import TrainedTokens

__all__ = ["Correction", "correct", "out_of_bounds", "token_gaps", "without_tokens"]


@dataclass(frozen=True, kw_only=True)
class Correction:
    """What is left of a batch, and what it weighs."""

    batch: TokenBatch
    """The batch without the masked tokens: their `chunk_of_token` is -1, as if RL had never trained them. So they
    have no gradient, may hold anything, and count in no denominator of `normalise`."""
    weight: Tensor
    """[B, T] truncated importance weight of each token, 0 outside of chunks; or [] and 1 where none is asked for.
    Without gradient."""
    pairs: Pairs
    """Metrics, for `report`: the share of masked tokens, the mean gap, the share of truncated weights."""


def correct(batch: TokenBatch, settings: CorrectionSettings) -> Correction:
    """Return the batch without what the mask leaves out, and the weights of the rest.

    A gap is the geometric mean of π_old/μ over the token, chunk or trajectory. The mask keeps low ≤ gap ≤ high;
    the weight is min(gap, cap), of the unmasked tokens alone. With `old_policy = "behaviour"` every gap is 1.
    """
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    if settings.mask != "none":
        gap = token_gaps(batch, settings.mask)
        masked = out_of_bounds(gap, settings.low, settings.high) & inside(batch)
        tokens = count(batch)
        pairs["mask_share"] = (masked.sum(), tokens)
        pairs["gap_mean"] = (total(gap), tokens)
        batch = without_tokens(batch, masked)
    if settings.weight == "none":
        return Correction(batch=batch, weight=batch.old_logprobs.new_ones(()), pairs=pairs)
    gap = token_gaps(batch, settings.weight)
    weight = gap.clamp(max=settings.cap)
    tokens = count(batch)
    pairs["weight_mean"] = (total(weight), tokens)
    pairs["weight_capped_share"] = ((gap > settings.cap).sum(), tokens)
    return Correction(batch=batch, weight=weight, pairs=pairs)


def token_gaps(batch: TokenBatch, level: Level) -> Tensor:
    """Return for each token the gap of what it belongs to, 0 outside of chunks; [B, T] without gradient."""
    old, behaviour = batch.old_logprobs.detach(), batch.behaviour_logprobs.detach()
    if level == "token":
        return only_inside(log_ratio(old, behaviour, batch).exp(), batch)
    length, above, below = lengths_and_sums(batch, old, behaviour)
    means = mean_by_level(above - below, length, batch, "trajectory" if level == "trajectory" else "chunk")
    return spread(means.exp(), batch)


def out_of_bounds(gap: Tensor, low: float, high: float | None) -> Tensor:
    """Return where a gap is to be masked, NaN among them; [...] bool."""
    # Asked this way round because NaN is within no bounds.
    return ~((gap >= low) & (gap <= (math.inf if high is None else high)))


def without_tokens(batch: TokenBatch, masked: Tensor) -> TokenBatch:
    """Return the batch as if the masked tokens had never been trained; `masked` is [B, T] bool."""
    left = batch.chunk_of_token.masked_fill(masked, -1)
    if isinstance(batch, TrainedTokens):
        return replace(batch, chunk_of_token=left, whole=False)
    return replace(batch, chunk_of_token=left)
