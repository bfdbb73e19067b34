"""The clipped surrogate of PPO (arXiv 1707.06347, Eq. 7) in torch; knows neither averages nor advantages' origin."""

import torch
from torch import Tensor

from tumbler_algorithms.parts.exponential import bounded_exp

__all__ = ["clipped_surrogate"]


def clipped_surrogate(
    log_ratio: Tensor, advantage: Tensor, *, low: float, high: float, dual: float | None = None
) -> tuple[Tensor, Tensor]:
    """Return min(ρA, clip(ρ, 1 - low, 1 + high) A) and where a bound holds it; both of the arguments' shape.

    Where A < 0 the surrogate is unbounded below as ρ grows; `dual`, unless None, holds it at `dual` · A
    (dual-clip PPO, arXiv 1912.09729). Above e²⁰ a ratio counts as less than it is, so that no gradient overflows.
    """
    # Tokens without an advantage drop out before the exponential, so that they may hold anything.
    ratio = bounded_exp(log_ratio.masked_fill(advantage == 0, 0.0))
    free = ratio * advantage
    surrogate = torch.minimum(free, ratio.clamp(1.0 - low, 1.0 + high) * advantage)
    held = surrogate < free
    if dual is None:
        return surrogate, held
    floor = dual * advantage
    lower = (advantage < 0) & (surrogate < floor)
    return torch.where(lower, floor, surrogate), held | lower
