"""Bootstrap intervals over seeds; knows no study."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Interval", "bootstrap", "paired"]

_FEWEST = 3
"""Values below which nothing can be said about their spread."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean and its 95 % interval; without bounds, NaN, where there are too few values for one."""

    mean: float
    low: float
    high: float
    count: int

    def percent(self) -> str:
        """Return it as a table's cell, in percent."""
        bounds = f" [{100 * self.low:.1f}, {100 * self.high:.1f}]" if self.bounded else ""
        return f"{100 * self.mean:.1f}{bounds}"

    def plain(self) -> str:
        """Return it as a table's cell, with three digits."""
        return f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}]" if self.bounded else f"{self.mean:.3g}"

    @property
    def bounded(self) -> bool:
        """Return whether there are bounds."""
        return math.isfinite(self.low)


def bootstrap(values: Sequence[float], *, resamples: int = 10_000, seed: int = 0) -> Interval:
    """Return the mean and its bootstrap-t interval (Efron and Tibshirani 1993, 12.5).

    A percentile interval of five values covers the mean in about 85 of 100 cases, this one in about 95. Fewer than
    three values have no interval.
    """
    array = np.asarray(values, dtype=np.float64)
    mean, count = float(array.mean()), len(array)
    if count < _FEWEST:
        return Interval(mean=mean, low=math.nan, high=math.nan, count=count)
    error = float(array.std(ddof=1)) / math.sqrt(count)
    draws = array[np.random.default_rng(seed).integers(0, count, size=(resamples, count))]
    errors = draws.std(axis=1, ddof=1) / math.sqrt(count)
    spread = errors > 1e-12
    if not spread.any():
        return Interval(mean=mean, low=mean, high=mean, count=count)
    ratios = (draws.mean(axis=1)[spread] - mean) / errors[spread]
    low, high = np.quantile(ratios, [0.025, 0.975])
    return Interval(mean=mean, low=mean - float(high) * error, high=mean - float(low) * error, count=count)


def paired(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Return the mean difference first - second of values that belong together, such as those of one seed."""
    return bootstrap([a - b for a, b in zip(first, second, strict=True)])
