"""Outcomes as plots: SVG files that read in black and white, with intervals over seeds."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import matplotlib
import numpy as np

matplotlib.use("svg")

from experiments.study.intervals import bootstrap
from experiments.study.outcomes import Outcome
from experiments.study.tables import arms_of, values_of
from matplotlib import pyplot  # the backend is chosen first
from matplotlib.axes import Axes

__all__ = ["plot_conditions", "plot_curves"]

_MARKERS = "osD^vPX*<>"
_RESAMPLES = 2000
_APART = 0.008
_BAND = 0.08
_WINDOWS = 48
_BETWEEN = 8
_Array: TypeAlias = "np.ndarray[tuple[int, ...], np.dtype[np.float64]]"


def plot_conditions(
    outcomes: Sequence[Outcome],
    measure: Callable[[Outcome], float],
    path: Path,
    *,
    positions: Mapping[str, float],
    xlabel: str,
    ylabel: str,
) -> None:
    """Draw one line for each arm over the conditions, whose places on the axis `positions` gives."""
    with _figure(path, xlabel, ylabel) as axes:
        arms = arms_of(outcomes)
        # Side by side, or the intervals would hide each other.
        apart = _APART * (max(positions.values()) - min(positions.values()))
        for number, arm in enumerate(arms):
            places, intervals = [], []
            for condition, place in positions.items():
                values = values_of(outcomes, condition, arm, measure)
                if values:
                    places.append(place + apart * (number - (len(arms) - 1) / 2))
                    intervals.append(bootstrap(list(values.values()), resamples=_RESAMPLES))
            means = np.array([each.mean for each in intervals])
            errors = np.nan_to_num([[each.mean - each.low, each.high - each.mean] for each in intervals]).T
            axes.errorbar(
                places, means, yerr=errors, label=arm, marker=_MARKERS[number % len(_MARKERS)], capsize=2, lw=1
            )
        axes.set_xticks(list(positions.values()), labels=list(positions))


def plot_curves(
    outcomes: Sequence[Outcome],
    metric: str,
    path: Path,
    *,
    ylabel: str,
    logarithmic: bool = False,
) -> None:
    """Draw a metric over the sampled tokens, the mean over seeds with its interval, one line for each arm."""
    with _figure(path, "sampled tokens", ylabel) as axes:
        for number, arm in enumerate(arms_of(outcomes)):
            chosen = [each for each in outcomes if each.cell.arm == arm and not each.error]
            if not chosen:
                continue
            edges = np.linspace(0, min(each.sampled_tokens[-1] for each in chosen), _WINDOWS + 1)
            curves = np.array([_over_tokens(each.curve(metric), each.sampled_tokens, edges) for each in chosen])
            tokens = (edges[1:] + edges[:-1]) / 2
            intervals = [_interval(column) for column in curves.T]
            (line,) = axes.plot(tokens, [each[0] for each in intervals], label=arm, lw=1.2)
            line.set_marker(_MARKERS[number % len(_MARKERS)])
            line.set_markevery((number % _BETWEEN, _BETWEEN))
            axes.fill_between(
                tokens, [each[1] for each in intervals], [each[2] for each in intervals], alpha=_BAND, lw=0
            )
        if logarithmic:
            axes.set_yscale("log")


def _over_tokens(values: Sequence[float], tokens: Sequence[float], edges: _Array) -> _Array:
    """Return the mean of the steps' values in each window of tokens; steps differ in how many they sample."""
    ends = np.array([0.0, *tokens])
    known = np.isfinite(values)
    widths = np.diff(ends) * known
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0) * widths)])
    weights = np.concatenate([[0.0], np.cumsum(widths)])
    weight = np.diff(np.interp(edges, ends, weights))
    total = np.diff(np.interp(edges, ends, sums))
    return np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)


def _interval(values: _Array) -> tuple[float, float, float]:
    known = [float(value) for value in values if math.isfinite(value)]
    if not known:
        return math.nan, math.nan, math.nan
    interval = bootstrap(known, resamples=_RESAMPLES)
    return interval.mean, interval.low, interval.high


@contextmanager
def _figure(path: Path, xlabel: str, ylabel: str) -> Iterator[Axes]:
    """Yield one pair of axes, and write them to the file at the end."""
    # With a salt of our own equal results give equal files.
    with pyplot.rc_context({"svg.hashsalt": "tumbler", "font.size": 9}):
        figure, axes = pyplot.subplots(figsize=(7.6, 3.8), layout="constrained")
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        axes.spines[["top", "right"]].set_visible(False)
        yield axes
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)
