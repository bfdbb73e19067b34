"""What was measured as plots: SVG files that read in black and white."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean

import matplotlib
import numpy as np

matplotlib.use("svg")

from experiments.context.cuts import Cut
from experiments.context.measures import Measured
from experiments.context.scores import Share
from experiments.context.tables import of_arm
from matplotlib import pyplot  # the backend is chosen first
from matplotlib.axes import Axes

__all__ = ["plot_completion", "plot_cost", "plot_cuts"]

_PARTS = 20


def plot_completion(measured: Sequence[Measured], path: Path) -> None:
    """Draw which part of the tasks each arm completes, with Wilson intervals."""
    names = list(dict.fromkeys(each.arm for each in measured))
    with _figure(path, "tasks completed, %", "", height=5.2) as axes:
        for place, name in enumerate(reversed(names)):
            mine = [each.success for each in of_arm(measured, name)]
            share = Share(hits=sum(mine), count=len(mine))
            low, high = share.bounds
            bars = [[100 * (share.share - low)], [100 * (high - share.share)]]
            axes.errorbar([100 * share.share], [place], xerr=bars, fmt="ko", ms=4, capsize=2, lw=1)
        axes.set_yticks(range(len(names)), labels=list(reversed(names)))
        axes.grid(axis="x", lw=0.3)
        axes.set_xlim(-3, 103)


def plot_cost(measured: Sequence[Measured], path: Path) -> None:
    """Draw the tokens of an episode, arms by completion: hollow as they are sent, filled as they are computed."""
    names = list(dict.fromkeys(each.arm for each in measured))
    done = {name: fmean(each.success for each in of_arm(measured, name)) for name in names}
    names.sort(key=lambda name: done[name])
    with _figure(path, "tokens of an episode, thousands", "", height=5.2) as axes:
        for place, name in enumerate(names):
            mine = of_arm(measured, name)
            sent = fmean(each.tokens for each in mine) / 1000
            computed = fmean(each.tokens - each.cached_tokens for each in mine) / 1000
            axes.plot([computed, sent], [place, place], color="0.8", lw=0.8, zorder=1)
            axes.plot([sent], [place], "ko", mfc="white", ms=5)
            axes.plot([computed], [place], "ko", ms=4)
        axes.set_yticks(range(len(names)), labels=[f"{name}, {100 * done[name]:.0f} %" for name in names])
        axes.set_xscale("log")


def plot_cuts(cuts: Sequence[Cut], path: Path) -> None:
    """Draw for each family and twentieth of the conversation which part of the cuts there loses the task."""
    families = list(dict.fromkeys(each.family for each in cuts))
    lost = np.full((len(families), _PARTS), np.nan)
    for row, family in enumerate(families):
        for part in range(_PARTS):
            there = [each.lost for each in cuts if each.family == family and int(each.place * _PARTS) == part]
            if there:
                lost[row, part] = fmean(there)
    with _figure(path, "part of the conversation that is cut off, %", "", height=3.6) as axes:
        edges = np.linspace(0, 100, _PARTS + 1)
        drawn = axes.pcolormesh(
            edges, np.arange(len(families) + 1), lost, cmap="Greys", vmin=0, vmax=1, ec="0.9", lw=0.3
        )
        axes.set_yticks(np.arange(len(families)) + 0.5, labels=families)
        axes.invert_yaxis()
        axes.figure.colorbar(drawn, ax=axes, label="cuts that lose the task")


@contextmanager
def _figure(path: Path, xlabel: str, ylabel: str, *, height: float) -> Iterator[Axes]:
    """Yield one pair of axes, and write them to the file at the end."""
    # With a salt of our own equal results give equal files.
    with pyplot.rc_context({"svg.hashsalt": "tumbler", "font.size": 8}):
        figure, axes = pyplot.subplots(figsize=(6.8, height), layout="constrained")
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        axes.spines[["top", "right"]].set_visible(False)
        yield axes
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)
