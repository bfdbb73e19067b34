"""Makes a loss of token losses: corrected, regularised, averaged. Knows no algorithm. B rows, T tokens."""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from tumbler.contracts.batch import LossOutput, TokenBatch
from tumbler_algorithms.parts.averages import normalise
from tumbler_algorithms.parts.correction import Correction
from tumbler_algorithms.parts.metrics import Pairs, report
from tumbler_algorithms.parts.objective import ObjectiveSettings
from tumbler_algorithms.parts.regularise import regularise
from tumbler_algorithms.parts.tokens import count, only_inside, spread, total

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
    if correction.weight.ndim:
        token_loss = token_loss * correction.weight
    if penalty.loss.ndim:
        token_loss = token_loss + penalty.loss
    summed = total(token_loss * spread(scale, batch)) if scale.ndim else total(token_loss) * scale
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
    weight = only_inside(weight.detach(), batch)
    loss: Tensor = _MinusLikelihood.apply(batch.policy_logprobs, weight)  # type: ignore[no-untyped-call]  # torch gives no type
    return loss


class _Context(FunctionCtx):
    """What the function below keeps from forward to backward."""

    saved_tensors: tuple[Tensor, ...]


class _MinusLikelihood(torch.autograd.Function):
    """-weight · log π_θ, and its slope: without the mask that autograd would apply to what is 0 already."""

    @staticmethod
    def forward(ctx: _Context, logprobs: Tensor, weight: Tensor) -> Tensor:
        # Where the weight is 0 the log-probability may be anything, NaN included: 0 times it need not be 0.
        slope = -weight
        ctx.save_for_backward(slope)
        return logprobs.masked_fill(weight == 0, 0.0).mul_(slope)

    @staticmethod
    def backward(ctx: _Context, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return grad_outputs[0] * slope, None


def drift(log_ratio: Tensor, batch: TokenBatch) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the metrics of every algorithm: the mean of π_θ/π_old, and an estimate of KL(π_old‖π_θ)."""
    moved, tokens = log_ratio.detach(), count(batch)
    beyond = torch.expm1(moved)
    # A ratio is 1 + expm1(x), and 0 outside of chunks, where x is 0.
    ratios = total(beyond) + tokens
    return {"ratio_mean": (ratios, tokens), "kl": (total(beyond.sub_(moved)), tokens)}
