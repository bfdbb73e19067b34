"""The clipped surrogate of PPO (arXiv 1707.06347, Eq. 7) in torch; knows neither averages nor advantages' origin."""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from tumbler_algorithms.parts.exponential import bounded_exp

__all__ = ["clipped_surrogate"]


def clipped_surrogate(
    log_ratio: Tensor, advantage: Tensor, *, low: float, high: float, dual: float | None = None
) -> tuple[Tensor, Tensor]:
    """Return min(ρA, clip(ρ, 1 - low, 1 + high) A), and 1 where a bound holds it, else 0; both of the arguments' shape.

    Where A < 0 the surrogate is unbounded below as ρ grows; `dual`, above 1 unless None, holds it at `dual` · A
    (dual-clip PPO, arXiv 1912.09729). Above e²⁰ a ratio counts as less than it is, so that no gradient overflows.
    Tokens without an advantage may hold anything.

    Args:
        log_ratio: log ρ, with gradient.
        advantage: A, without.
        low: how far a ratio may fall below 1.
        high: how far it may rise above 1.
        dual: the ratio that holds what is left unbounded.
    """
    found: tuple[Tensor, Tensor] = _Surrogate.apply(log_ratio, advantage, low, high, dual)  # type: ignore[no-untyped-call]  # torch gives no type
    return found


class _Context(FunctionCtx):
    """What the function below keeps from forward to backward."""

    saved_tensors: tuple[Tensor, ...]


class _Surrogate(torch.autograd.Function):
    """Where nothing holds it the slope is that of ρA, elsewhere 0: known at once, so that backward is one product."""

    @staticmethod
    def forward(
        ctx: _Context, log_ratio: Tensor, advantage: Tensor, low: float, high: float, dual: float | None
    ) -> tuple[Tensor, Tensor]:
        # Before the exponential: 0 times what it makes of anything need not be 0.
        ratio, slope = bounded_exp(log_ratio.masked_fill(advantage == 0, 0.0))
        free = ratio * advantage
        surrogate = torch.minimum(free, ratio.clamp_(1.0 - low, 1.0 + high).mul_(advantage))
        if dual is not None:
            # Where A ≥ 0 the surrogate is not negative, and this bound is 0.
            surrogate = torch.maximum(surrogate, dual * advantage.clamp(max=0.0))
        # Comparing in place is far faster than making booleans. NaN times 0 is NaN, and so is seen in the gradient too.
        loose = free.eq_(surrogate)
        ctx.save_for_backward(slope.mul_(advantage).mul_(loose))
        held = 1.0 - loose
        ctx.mark_non_differentiable(held)
        return surrogate, held

    @staticmethod
    def backward(ctx: _Context, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None, None]:
        (slope,) = ctx.saved_tensors
        return grad_outputs[0] * slope, None, None, None, None
