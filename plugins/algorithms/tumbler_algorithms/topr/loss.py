"""TOPR's loss in torch: failures weighted by their truncated ratio. Knows neither groups nor optimizers.

Axes: B rows, T tokens, C trainable chunks, N trajectories.
"""

import torch
from torch import Tensor

from tumbler.contracts.batch import LossOutput, TokenBatch
from tumbler_algorithms.parts.correction import correct
from tumbler_algorithms.parts.ratios import mean_log_ratio
from tumbler_algorithms.parts.token_loss import drift, minus_log_likelihood, total_loss
from tumbler_algorithms.parts.tokens import by_trajectory, inside, log_ratio, spread, sum_by_chunk, sum_by_trajectory
from tumbler_algorithms.parts.trained import trained_tokens
from tumbler_algorithms.topr.settings import TOPRSettings

__all__ = ["topr_loss"]


def topr_loss(batch: TokenBatch, settings: TOPRSettings) -> LossOutput:
    """Return the loss of one micro-batch (arXiv 2503.14286).

    L_t = -sg(w) A log π_θ(t), where w = 1 if A ≥ 0, else clip(ρ, 0, 1), and ρ is the ratio π_θ/π_old of
    the whole trajectory, across its segments: a failure loses its weight as the policy leaves it behind,
    so that no probability is driven to 0, and a success never does.
    """
    correction = correct(trained_tokens(batch), settings.correction)
    batch = correction.batch
    moved = log_ratio(batch.policy_logprobs.detach(), batch.old_logprobs, batch)
    ratio = _trajectory_log_ratio(moved, batch, settings).exp().clamp(max=1.0)
    advantage = spread(batch.chunk_credit, batch)
    taper = torch.where(advantage < 0, ratio, 1.0)
    failing = inside(batch) & (advantage < 0)
    pairs = {**drift(moved, batch), "failure_weight_mean": ((taper * failing).sum(), failing.sum())}
    token_loss = minus_log_likelihood(taper * advantage, batch)
    return total_loss(token_loss, correction, settings, prefix="topr/", pairs=pairs)


def _trajectory_log_ratio(moved: Tensor, batch: TokenBatch, settings: TOPRSettings) -> Tensor:
    """Return the logarithm of each token's trajectory's ratio, 0 outside of chunks; [B, T] to [B, T]."""
    if settings.ratio == "geometric-mean":
        return mean_log_ratio(moved, batch, "trajectory")
    return spread(by_trajectory(sum_by_trajectory(sum_by_chunk(moved, batch), batch), batch), batch)
