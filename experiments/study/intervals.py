"""Bootstrap intervals over seeds; knows no study."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Interval", "bootstrap", "paired"]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float
    count: int

    def percent(self) -> str:
        """Return it as a table's cell, in percent."""
        return f"{100 * self.mean:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"

    def plain(self) -> str:
        """Return it as a table's cell, with three digits."""
        return f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}]"


def bootstrap(values: Sequence[float], *, resamples: int = 10_000, seed: int = 0) -> Interval:
    """Return the mean and its percentile bootstrap interval (Efron and Tibshirani 1993, chapter 13)."""
    array = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(0, len(array), size=(resamples, len(array)))
    low, high = np.quantile(array[draws].mean(axis=1), [0.025, 0.975])
    return Interval(mean=float(array.mean()), low=float(low), high=float(high), count=len(array))


def paired(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Return the mean difference first - second of values that belong together, such as those of one seed."""
    return bootstrap([a - b for a, b in zip(first, second, strict=True)])
