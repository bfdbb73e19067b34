"""Trajectory-level IPA's loss in torch: Eq. 4-6 of arXiv 2512.24873. Knows neither groups nor optimizers.

Axes: B rows, T tokens, C trainable chunks, N trajectories.
"""

from dataclasses import replace

import torch

from tumbler.contracts.batch import LossOutput, TokenBatch
from tumbler_algorithms.ipa_trajectory.settings import TrajectoryIPASettings
from tumbler_algorithms.parts.correction import correct
from tumbler_algorithms.parts.ratios import mean_log_ratio
from tumbler_algorithms.parts.settings import CorrectionSettings
from tumbler_algorithms.parts.token_loss import drift, minus_log_likelihood, total_loss
from tumbler_algorithms.parts.tokens import count, log_ratio, spread
from tumbler_algorithms.parts.trained import trained_tokens

__all__ = ["trajectory_ipa_loss"]


def trajectory_ipa_loss(batch: TokenBatch, settings: TrajectoryIPASettings) -> LossOutput:
    """Return the loss of one micro-batch.

    L_t = -sg(w) m_t R log π_θ(t), where w = 1 if the reward is positive and its credit not negative, else
    clip(ρ, 0, 1), ρ is the geometric mean of π_θ/π_old over the trajectory's trained tokens, masked by m_t or
    not, and m_t = 1[π_old/μ ≤ H].
    """
    correction = correct(trained_tokens(batch), settings.correction)
    batch = correction.batch
    moved = log_ratio(batch.policy_logprobs.detach(), batch.old_logprobs, batch)
    ratio = mean_log_ratio(moved, batch, "trajectory").exp()
    masked = correct(batch, CorrectionSettings(mask="token", high=settings.mismatch_threshold))
    failed = spread(~(batch.reward > 0)[batch.chunk_trajectory] | (batch.chunk_credit < 0), batch)
    weight = torch.where(failed, ratio.clamp(max=1.0), 1.0) * spread(batch.chunk_credit, batch)
    pairs = {
        **drift(moved, batch),
        "capped_share": ((failed & (ratio > 1.0)).sum(), count(batch)),
        "token_mask_share": masked.pairs["mask_share"],
    }
    left = replace(correction, batch=masked.batch)
    token_loss = minus_log_likelihood(weight, left.batch)
    return total_loss(token_loss, left, settings, prefix="ipa-trajectory/", pairs=pairs)
