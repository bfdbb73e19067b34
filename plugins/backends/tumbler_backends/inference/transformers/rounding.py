"""Weights rounded to few bits, as a quantised engine serves them. Knows no model. O output rows, I inputs."""

import torch
from torch import Tensor

__all__ = ["rounded"]


def rounded(weight: Tensor, bits: int) -> Tensor:
    """Return the weight with each output row on a symmetric grid of `bits` bits; 0 bits, and vectors, change nothing.

    The grid of a row reaches to its largest weight: round(w / s) · s with s = max|w| / (2^(bits-1) - 1), the
    usual post-training rounding of matrices (arXiv 2208.07339, 2). The result keeps type and shape [O, I]: what
    it costs in accuracy is seen, and no memory is saved.
    """
    if bits == 0 or weight.ndim < 2:
        return weight
    steps = 2 ** (bits - 1) - 1
    scale = weight.float().abs().amax(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / steps
    grid: Tensor = (weight.float() / scale).round() * scale
    return grid.to(weight.dtype)
