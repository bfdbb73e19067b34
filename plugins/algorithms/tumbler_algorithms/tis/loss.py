"""TIS's loss in torch: -sg(min(ρ, cap)) A log π. Knows neither groups nor optimizers. B rows, T tokens."""

from tumbler.contracts.batch import LossOutput, TokenBatch
from tumbler_algorithms.parts.correction import correct
from tumbler_algorithms.parts.ratios import mean_log_ratio
from tumbler_algorithms.parts.token_loss import drift, minus_log_likelihood, total_loss
from tumbler_algorithms.parts.tokens import count, inside, log_ratio, spread
from tumbler_algorithms.parts.trained import trained_tokens
from tumbler_algorithms.tis.settings import TISSettings

__all__ = ["tis_loss"]


def tis_loss(batch: TokenBatch, settings: TISSettings) -> LossOutput:
    """Return the loss of one micro-batch: L_t = -sg(clip(ρ, 0, cap)) A log π_θ(t), ρ being π_θ/π_old.

    The truncated weight is that of V-trace (arXiv 1802.01561, 4.1); it bounds the variance of the
    importance-weighted policy gradient at the price of a bias where ρ > cap.
    """
    correction = correct(trained_tokens(batch), settings.correction)
    batch = correction.batch
    moved = log_ratio(batch.policy_logprobs.detach(), batch.old_logprobs, batch)
    ratio = mean_log_ratio(moved, batch, settings.ratio_level).exp()
    weight = ratio.clamp(max=settings.cap) * spread(batch.chunk_credit, batch)
    capped = inside(batch) & (ratio > settings.cap)
    pairs = {**drift(moved, batch), "capped_share": (capped.sum(), count(batch))}
    return total_loss(minus_log_likelihood(weight, batch), correction, settings, prefix="tis/", pairs=pairs)
