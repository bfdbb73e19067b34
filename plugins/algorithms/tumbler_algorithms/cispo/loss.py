"""CISPO's loss in torch: -sg(clip(ρ)) A log π. Knows neither groups nor optimizers. B rows, T tokens."""

from tumbler.contracts.batch import LossOutput, TokenBatch
from tumbler_algorithms.cispo.settings import CISPOSettings
from tumbler_algorithms.parts.correction import correct
from tumbler_algorithms.parts.token_loss import drift, minus_log_likelihood, total_loss
from tumbler_algorithms.parts.tokens import count, log_ratio, spread
from tumbler_algorithms.parts.trained import trained_tokens

__all__ = ["cispo_loss"]


def cispo_loss(batch: TokenBatch, settings: CISPOSettings) -> LossOutput:
    """Return the loss of one micro-batch (arXiv 2506.13585, Eq. 4-5).

    L_t = -sg(clip(ρ_t, 1 - clip_low, 1 + clip_high)) A log π_θ(t), ρ_t being π_θ/π_old. A token whose
    ratio left the bounds still pushes, where PPO's clip would silence it.
    """
    correction = correct(trained_tokens(batch), settings.correction)
    batch = correction.batch
    moved = log_ratio(batch.policy_logprobs.detach(), batch.old_logprobs, batch)
    ratio = moved.exp()
    clipped = ratio.clamp(
        min=0.0 if settings.clip_low is None else 1.0 - settings.clip_low, max=1.0 + settings.clip_high
    )
    weight = clipped * spread(batch.chunk_credit, batch)
    # Outside of chunks the ratio is 1, which no bound holds. Comparing in place is far faster than making booleans.
    pairs = {**drift(moved, batch), "clipped_share": (ratio.ne_(clipped).sum(), count(batch))}
    return total_loss(minus_log_likelihood(weight, batch), correction, settings, prefix="cispo/", pairs=pairs)
