"""GRPO's loss in torch: the PPO clip on ratios, weighted by advantages. Knows neither groups nor optimizers.

Axes: B rows, T tokens, C trainable chunks, N trajectories.
"""

from tumbler.contracts.batch import LossOutput, TokenBatch
from tumbler_algorithms.grpo.settings import GRPOSettings
from tumbler_algorithms.parts.clipping import clipped_surrogate
from tumbler_algorithms.parts.correction import correct
from tumbler_algorithms.parts.ratios import mean_log_ratio
from tumbler_algorithms.parts.token_loss import drift, total_loss
from tumbler_algorithms.parts.tokens import count, log_ratio, spread
from tumbler_algorithms.parts.trained import trained_tokens

__all__ = ["grpo_loss"]


def grpo_loss(batch: TokenBatch, settings: GRPOSettings) -> LossOutput:
    """Return the loss of one micro-batch (arXiv 2402.03300, Eq. 3).

    With ρ the geometric mean of π_θ/π_old over a token, a chunk or a trajectory, each of its tokens has
    L_t = -min(ρ A, clip(ρ, 1 - clip_low, 1 + clip_high) A), plus the penalties that are asked for.
    `parts.averages.normalise` says what total and denominator are.
    """
    correction = correct(trained_tokens(batch), settings.correction)
    batch = correction.batch
    advantage = spread(batch.chunk_credit, batch)
    moved = log_ratio(batch.policy_logprobs, batch.old_logprobs.detach(), batch)
    surrogate, held = clipped_surrogate(
        mean_log_ratio(moved, batch, settings.ratio_level),
        advantage,
        low=settings.clip_low,
        high=settings.clip_high,
        dual=settings.dual_clip,
    )
    pairs = {**drift(moved, batch), "clipped_share": (held.sum(), count(batch))}
    return total_loss(-surrogate, correction, settings, prefix="grpo/", pairs=pairs)
