"""Exponentials of log-ratios that no runaway token can overflow. Knows no batch."""

import torch
from torch import Tensor

__all__ = ["bounded_exp", "bounded_expm1"]

_BOUND = 20.0
"""Log-ratio above which the exponential goes on as its tangent. In single precision eˣ is infinite above 88, and an
infinite value that a clip discards still makes its gradient 0 · ∞, NaN."""


def bounded_exp(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return eˣ, above 20 the tangent there, and its slope: both stay finite, and the slope keeps its sign."""
    bounded = x.clamp(max=_BOUND)
    slope = bounded.exp()
    return torch.addcmul(slope, slope, x - bounded), slope


def bounded_expm1(x: Tensor) -> Tensor:
    """Return eˣ - 1 in the same way, exact for small x."""
    bounded = x.clamp(max=_BOUND)
    return torch.expm1(bounded) + bounded.detach().exp() * (x - bounded)
