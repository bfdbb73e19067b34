"""Plots of simulated runs."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import matplotlib

matplotlib.use("svg")

from experiments.scale.simulating import ARMS, Simulated
from experiments.scale.world import TRACES
from matplotlib import pyplot  # the backend is chosen first

__all__ = ["plot_efficiency", "plot_sizes"]

_MARKERS = "osD^vPX"


def plot_efficiency(played: Sequence[Simulated], path: Path) -> None:
    """Draw what share of the bound each policy reaches, one bar for each trace."""
    with pyplot.rc_context({"svg.hashsalt": "tumbler", "font.size": 9}):
        figure, axes = pyplot.subplots(figsize=(7.6, 3.8), layout="constrained")
        height = 0.8 / len(TRACES)
        for number, trace in enumerate(TRACES):
            shares = [
                _mean([e.efficiency for e in played if e.arm == arm and e.cluster.trace == trace]) for arm in ARMS
            ]
            axes.barh([place + number * height for place in range(len(ARMS))], shares, height, label=trace)
        axes.set_yticks([place + height for place in range(len(ARMS))], labels=list(ARMS))
        axes.invert_yaxis()
        axes.axvline(1.0, color="black", lw=0.8, ls=":")
        axes.set_xlabel("share of the bound")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)


def plot_sizes(played: Sequence[Simulated], path: Path) -> None:
    """Draw what share of the bound each policy reaches over the number of environments."""
    with pyplot.rc_context({"svg.hashsalt": "tumbler", "font.size": 9}):
        figure, axes = pyplot.subplots(figsize=(7.6, 3.8), layout="constrained")
        sizes = sorted({each.cluster.environments for each in played})
        for marker, arm in zip(_MARKERS, ARMS, strict=True):
            shares = [
                _mean([e.efficiency for e in played if e.arm == arm and e.cluster.environments == size])
                for size in sizes
            ]
            axes.plot(sizes, shares, marker=marker, label=arm, lw=1.2)
        axes.set_xscale("log")
        axes.set_xlabel("environments")
        axes.set_ylabel("share of the bound")
        axes.set_ylim(0, 1.05)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else 0.0
