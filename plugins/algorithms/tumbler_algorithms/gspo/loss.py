"""GSPO's loss in torch: one clipped ratio for each trajectory. Knows neither groups nor optimizers.

Axes: B rows, T tokens, C trainable chunks, N trajectories.
"""

from tumbler.contracts.batch import LossOutput, TokenBatch
from tumbler_algorithms.gspo.settings import GSPOSettings
from tumbler_algorithms.parts.clipping import clipped_surrogate
from tumbler_algorithms.parts.correction import correct
from tumbler_algorithms.parts.ratios import mean_log_ratio
from tumbler_algorithms.parts.token_loss import drift, total_loss
from tumbler_algorithms.parts.tokens import count, log_ratio, spread
from tumbler_algorithms.parts.trained import trained_tokens

__all__ = ["gspo_loss"]


def gspo_loss(batch: TokenBatch, settings: GSPOSettings) -> LossOutput:
    """Return the loss of one micro-batch (arXiv 2507.18071).

    s = exp(mean_t (log π_θ - log π_old)) over all trained tokens of a trajectory, across its segments
    (Eq. 7), and L_t = -min(s A, clip(s) A) (Eq. 5). GSPO-token has s_t = sg(s) · π_θ(t) / sg(π_θ(t))
    in its place (Eq. 13-14): s_t equals s, and its gradient is that of token t alone.
    """
    correction = correct(trained_tokens(batch), settings.correction)
    batch = correction.batch
    advantage = spread(batch.chunk_credit, batch)
    moved = log_ratio(batch.policy_logprobs, batch.old_logprobs.detach(), batch)
    sequence = mean_log_ratio(moved, batch, "trajectory")
    if settings.variant == "token":
        sequence = sequence.detach() + moved - moved.detach()
    surrogate, held = clipped_surrogate(
        sequence, advantage, low=settings.clip_low, high=settings.clip_high, dual=settings.dual_clip
    )
    pairs = {**drift(moved, batch), "clipped_share": (held.sum(), count(batch))}
    return total_loss(-surrogate, correction, settings, prefix="gspo/", pairs=pairs)
