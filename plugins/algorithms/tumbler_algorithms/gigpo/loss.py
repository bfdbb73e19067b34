"""GiGPO's loss in torch: the PPO clip on token ratios, weighted by advantages. Knows neither groups nor optimizers.

Axes: B rows, T tokens, C trainable chunks, N trajectories.
"""

from tumbler.contracts.batch import LossOutput, TokenBatch
from tumbler_algorithms.gigpo.settings import GiGPOSettings
from tumbler_algorithms.parts.clipping import clipped_surrogate
from tumbler_algorithms.parts.correction import correct
from tumbler_algorithms.parts.token_loss import drift, total_loss
from tumbler_algorithms.parts.tokens import count, log_ratio, spread
from tumbler_algorithms.parts.trained import trained_tokens

__all__ = ["gigpo_loss"]


def gigpo_loss(batch: TokenBatch, settings: GiGPOSettings) -> LossOutput:
    """Return the loss of one micro-batch (arXiv 2505.10978, 4.3).

    With ρ_t = π_θ/π_old, L_t = -min(ρ_t A, clip(ρ_t, 1 - clip_low, 1 + clip_high) A), A being the advantage of
    the token's chunk, plus the penalties that are asked for.
    """
    correction = correct(trained_tokens(batch), settings.correction)
    batch = correction.batch
    advantage = spread(batch.chunk_credit, batch)
    moved = log_ratio(batch.policy_logprobs, batch.old_logprobs.detach(), batch)
    surrogate, held = clipped_surrogate(
        moved, advantage, low=settings.clip_low, high=settings.clip_high, dual=settings.dual_clip
    )
    pairs = {**drift(moved, batch), "clipped_share": (held.sum(), count(batch))}
    return total_loss(-surrogate, correction, settings, prefix="gigpo/", pairs=pairs)
