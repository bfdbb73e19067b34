"""Shares with Wilson intervals, and what flips between two arms on the same tasks; knows no strategy."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from experiments.context.measures import Measured
from experiments.study.intervals import Interval, paired

__all__ = ["Flips", "Share", "by_task", "difference", "flips"]

_Z = 1.959964


@dataclass(frozen=True, kw_only=True)
class Share:
    """So many of so many, with its 95 % interval (Wilson 1927)."""

    hits: int
    count: int

    @property
    def share(self) -> float:
        """Return the share."""
        return self.hits / self.count

    @property
    def bounds(self) -> tuple[float, float]:
        """Return the interval's ends, which never leave 0 to 1."""
        spread = _Z**2 / self.count
        middle = (self.share + spread / 2) / (1 + spread)
        half = _Z * math.sqrt(self.share * (1 - self.share) / self.count + spread / (4 * self.count)) / (1 + spread)
        return max(0.0, middle - half), min(1.0, middle + half)

    def __str__(self) -> str:
        """Return it as a table's cell, in percent."""
        low, high = self.bounds
        return f"{100 * self.share:.0f} [{100 * low:.0f}, {100 * high:.0f}]"


@dataclass(frozen=True, kw_only=True)
class Flips:
    """On how many tasks one arm fails where the other does not, and the other way round."""

    lost: int
    won: int


def by_task(measured: Iterable[Measured]) -> dict[tuple[str, int], bool]:
    """Return family and seed → success."""
    return {(each.family, each.seed): each.success for each in measured}


def flips(ours: Mapping[tuple[str, int], bool], theirs: Mapping[tuple[str, int], bool]) -> Flips:
    """Return what flips from `theirs` to `ours`, on the tasks that both have played."""
    both = ours.keys() & theirs.keys()
    return Flips(
        lost=sum(theirs[task] and not ours[task] for task in both),
        won=sum(ours[task] and not theirs[task] for task in both),
    )


def difference(
    ours: Mapping[tuple[str, int], bool], theirs: Mapping[tuple[str, int], bool], families: Sequence[str]
) -> Interval:
    """Return the difference of the success on some families, with its interval over tasks, paired by task."""
    tasks = sorted(task for task in ours.keys() & theirs.keys() if task[0] in families)
    return paired([ours[task] for task in tasks], [theirs[task] for task in tasks])
