"""What scheduling makes of long tails, stragglers and failures, with ten thousand environments on a virtual clock.

    python -m experiments.scale            # three traces, seven policies, and longer runs
    python -m experiments.scale --quick    # under a minute: whether asynchrony still pays, or exit status 1

The run loop, its waves and its scheduler are the real ones; replies, environments and training only take time. Tables
and plots go to docs/results.
"""

import argparse
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from experiments.scale.drawing import plot_efficiency, plot_sizes
from experiments.scale.simulating import ARMS, Cluster, Simulated, simulate
from experiments.scale.world import TRACES
from experiments.study.report import write_page

_ROOT = Path(__file__).parent.parent.parent
_SIZES = (100, 1_000)
_LONGER = (32, 64)
"""Steps of runs in which the first batch and the last one count for less."""
_BEST = "staleness 2, by arrival"
_QUICK = Cluster(trace="long-tailed", environments=400, groups=20, steps=8, seconds_per_turn=0.0625)
_LEAST = 2.2


@dataclass(frozen=True, kw_only=True)
class Options:
    """What was asked for."""

    quick: bool
    seeds: int
    workers: int
    results: Path


def parse_options() -> Options:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.scale", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one small cluster; ends with 1 where nothing is gained")
    parser.add_argument("--seeds", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--workers", type=int, default=2, help="processes at a time; default: %(default)s")
    parser.add_argument("--results", type=Path, default=_ROOT / "docs" / "results", help="folder of tables and plots")
    return Options(**vars(parser.parse_args()))


def play(cells: Sequence[tuple[str, Cluster, int]], workers: int) -> list[Simulated]:
    """Simulate every cell, each in a process that has simulated nothing before."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, max_tasks_per_child=1) as pool:
        played = []
        for each in pool.map(simulate, *zip(*cells, strict=True)):
            played.append(each)
            print(
                f"{len(played)}/{len(cells)} {each.cluster.trace}, {each.cluster.environments}: {each.arm}", flush=True
            )
        return played


def policy_table(played: Sequence[Simulated], trace: str) -> str:
    """Return one row for each policy of the scheduler."""
    rows = [
        "| policy | steps an hour | gain | of the bound | staleness | masked | length of trained episodes |",
        "|---|---|---|---|---|---|---|",
    ]
    base = fmean(each.steps_per_hour for each in _of(played, trace, "synchronous"))
    for arm in ARMS:
        found = _of(played, trace, arm)
        rate = fmean(each.steps_per_hour for each in found)
        rows.append(
            f"| {arm} | {rate:.1f} | {rate / base:.2f}× | {100 * fmean(e.efficiency for e in found):.0f} % "
            f"| {fmean(e.staleness for e in found):.2f} | {100 * fmean(e.stale_share for e in found):.1f} % "
            f"| {100 * (fmean(e.turns / e.unbiased_turns for e in found) - 1):+.1f} % |"
        )
    return "\n".join(rows)


def length_table(played: Sequence[Simulated]) -> str:
    """Return what the best policy without a bias reaches in runs of more and more steps, one column for each trace."""
    traces = [trace for trace in TRACES if any(each.cluster.trace == trace for each in played)]
    rows = ["| steps | " + " | ".join(traces) + " |", "|---|" + "---|" * len(traces)]
    for steps in sorted({each.cluster.steps for each in played}):
        cells = []
        for trace in traces:
            found = [each for each in _of(played, trace, _BEST) if each.cluster.steps == steps]
            cells.append(f"{100 * fmean(each.efficiency for each in found):.0f} %")
        rows.append(f"| {steps} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def check_gain(options: Options) -> int:
    """Return 0 if rollouts that run ahead pay on a long-tailed trace, else 1."""
    arms = ("synchronous", _BEST)
    before, after = play([(arm, _QUICK, 0) for arm in arms], options.workers)
    gain = after.steps_per_hour / before.steps_per_hour
    print(f"asynchronous against synchronous: {gain:.2f}×, {100 * after.efficiency:.0f} % of the bound")
    return 0 if gain >= _LEAST else 1


def _of(played: Sequence[Simulated], trace: str, arm: str) -> list[Simulated]:
    return [each for each in played if each.cluster.trace == trace and each.arm == arm]


def main() -> int:
    """Do what was asked for."""
    options = parse_options()
    if options.quick:
        return check_gain(options)
    clusters = [Cluster(trace=trace) for trace in TRACES]
    seeds = range(options.seeds)
    played = play([(arm, each, seed) for each in clusters for arm in ARMS for seed in seeds], options.workers)
    whole = Cluster(trace="long-tailed")
    sizes = [_sized(whole, size) for size in _SIZES]
    grown = play([(arm, each, seed) for each in sizes for arm in ARMS for seed in seeds], options.workers)
    grown += [each for each in played if each.cluster == whole]
    uneven = [each for each in clusters if each.trace != "even"]
    longer = play(
        [(_BEST, replace(each, steps=n), seed) for each in uneven for n in _LONGER for seed in seeds], options.workers
    )
    longer += [each for each in played if each.cluster in uneven and each.arm == _BEST]
    tables = {trace: policy_table(played, trace) for trace in TRACES} | {"steps": length_table(longer)}
    write_page("scale", options.results, tables)
    plot_efficiency(played, options.results / "scale-efficiency.svg")
    plot_sizes(grown, options.results / "scale-sizes.svg")
    print("\n\n".join(tables.values()))
    return 0


def _sized(cluster: Cluster, environments: int) -> Cluster:
    """Return a cluster of another size, whose trainer is as much faster or slower."""
    factor = environments / cluster.environments
    return replace(
        cluster,
        environments=environments,
        groups=max(1, round(cluster.groups * factor)),
        seconds_per_turn=cluster.seconds_per_turn / factor,
    )


if __name__ == "__main__":
    sys.exit(main())
