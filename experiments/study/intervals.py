"""Bootstrap intervals over seeds; knows no study."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

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
    """Return the mean and its expanded percentile interval (Hesterberg 2015, 10.1080/00031305.2015.1089789, 4.4).

    The percentile interval of five values covers the mean in about 85 of 100 cases. This one takes the quantiles at
    which it is as wide as the t interval of normal values, and so covers it in about 94, which is all that five values
    can give without assumptions: it never leaves their range. Fewer than three values have no interval; three cover
    the mean in about 75 cases, four in about 88.
    """
    array = np.asarray(values, dtype=np.float64)
    mean, count = float(array.mean()), len(array)
    if count < _FEWEST:
        return Interval(mean=mean, low=math.nan, high=math.nan, count=count)
    tail = stats.norm.cdf(-math.sqrt(count / (count - 1)) * stats.t.ppf(0.975, count - 1))
    draws = array[np.random.default_rng(seed).integers(0, count, size=(resamples, count))]
    low, high = np.quantile(draws.mean(axis=1), [tail, 1 - tail])
    return Interval(mean=mean, low=float(low), high=float(high), count=count)


def paired(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Return the mean difference first - second of values that belong together, such as those of one seed."""
    return bootstrap([a - b for a, b in zip(first, second, strict=True)])
