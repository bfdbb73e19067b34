"""Brings the figures of a loss from the device. Knows no algorithm."""

from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor

__all__ = ["Pairs", "report"]

Pairs: TypeAlias = Mapping[str, tuple[Tensor, Tensor]]
"""Name → (sum, count), each []."""


def report(pairs: Pairs, *, prefix: str = "") -> dict[str, tuple[float, float]]:
    """Return the pairs as `LossOutput.metrics` wants them; one without anything to count is left out."""
    if not pairs:
        return {}
    # One transfer for all of them: on a GPU each costs a synchronisation.
    numbers = torch.stack([part.detach().double() for pair in pairs.values() for part in pair]).tolist()
    sums_and_counts = zip(pairs, numbers[::2], numbers[1::2], strict=True)
    return {prefix + name: (value, count) for name, value, count in sums_and_counts if count > 0}
