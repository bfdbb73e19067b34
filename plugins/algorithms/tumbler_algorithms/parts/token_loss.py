"""Makes a loss of token losses: corrected, regularised, averaged. Knows no algorithm. B rows, T tokens."""

import torch
from torch import Tensor

from tumbler.contracts.batch import LossOutput, TokenBatch
from tumbler_algorithms.parts.averages import normalise
from tumbler_algorithms.parts.correction import Correction
from tumbler_algorithms.parts.metrics import Pairs, report
from tumbler_algorithms.parts.objective import ObjectiveSettings
from tumbler_algorithms.parts.regularise import regularise
from tumbler_algorithms.parts.tokens import inside, spread, total

__all__ = ["drift", "minus_log_likelihood", "total_loss"]


def total_loss(
    token_loss: Tensor, correction: Correction, settings: ObjectiveSettings, *, prefix: str, pairs: Pairs
) -> LossOutput:
    """Return the sum of the corrected and regularised token losses, and what to divide it by.

    Args:
        token_loss: [B, T] with gradient, finite everywhere, and 0 outside of the corrected batch's chunks.
        correction: what is left of the batch.
        settings: what to average over, and the penalties.
        prefix: of the metrics' names.
        pairs: the algorithm's own metrics.
    """
    batch = correction.batch
    penalty = regularise(batch, settings)
    scale, denominator = normalise(batch, settings.normalisation, constant=settings.constant_length)
    summed = total((token_loss * correction.weight + penalty.loss) * spread(scale, batch))
    penalties = {f"penalty_{name}": pair for name, pair in penalty.pairs.items()}
    return LossOutput(
        total=summed,
        denominator=float(denominator),
        metrics=report({**pairs, **correction.pairs, **penalties}, prefix=prefix),
    )


def minus_log_likelihood(weight: Tensor, batch: TokenBatch) -> Tensor:
    """Return -weight · log π_θ of each trained token, 0 where the weight is 0; [B, T] with gradient.

    The weight, [B, T], has no gradient: it scales that of the log-likelihood alone.
    """
    # Where the weight is 0 the log-probability may be anything, NaN included: 0 times it need not be 0.
    return -(weight.detach() * batch.policy_logprobs.masked_fill((weight == 0) | ~inside(batch), 0.0))


def drift(log_ratio: Tensor, batch: TokenBatch) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the metrics of every algorithm: the mean of π_θ/π_old, and an estimate of KL(π_old‖π_θ)."""
    moved, tokens = log_ratio.detach(), inside(batch).sum()
    beyond = torch.expm1(moved)
    # A ratio is 1 + expm1(x), and 0 outside of chunks, where x is 0.
    ratios = total(beyond) + tokens
    return {"ratio_mean": (ratios, tokens), "kl": (total(beyond - moved), tokens)}
