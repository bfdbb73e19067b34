"""Whether rollouts that run ahead of training learn as much from as many trajectories.

    python -m experiments.asynchrony

All arms train the same number of steps of the same size. They differ in how far rollouts run ahead, in which of them a
step trains, and in what becomes of chunks that are too old. Tables and a plot go to docs/results.
"""

import math
import sys
from statistics import fmean

from experiments.study.cells import Arm, Condition
from experiments.study.command import parse_options
from experiments.study.outcomes import Outcome
from experiments.study.plots import plot_curves
from experiments.study.report import write_page
from experiments.study.running import run_study
from experiments.study.tables import comparison_table, figure_table, success_table

TRAIL_STEPS = 8
STEPS = 20
SYNCHRONOUS = "by turns"
AHEAD = {
    "one step ahead": "max_staleness = 1",
    "two steps ahead": "max_staleness = 2",
    "two steps ahead, by arrival": 'max_staleness = 2, order = "arrival"',
    "two steps ahead, old chunks kept": 'max_staleness = 2, order = "arrival", stale_chunks = "keep"',
}
"""Arm → settings of `rl`."""
_ALGORITHM = 'use = "ipa", tasks_per_step = 8, group_size = 8, minibatches = 4, failure_reward = 0.0'
_LAST = 5


def arms() -> list[Arm]:
    """Return training by turns, then rollouts that run ahead."""
    fixed = f"steps = {STEPS}, checkpoint_every = 0, collapse_patience = 0"
    ahead = [Arm(name=name, overrides=(f"runs.arm.rl={{ {fixed}, {how} }}",)) for name, how in AHEAD.items()]
    return [Arm(name=SYNCHRONOUS, overrides=(f"runs.arm.rl={{ {fixed} }}",)), *ahead]


def condition() -> Condition:
    """Return what all arms share: the weights that sampled are kept, or their age would not be seen in the ratio."""
    algorithm = f'algorithms.arm={{ {_ALGORITHM}, anchors = {{ share = 0.0 }}, old_policy = "snapshot" }}'
    trail = f"envs.trail.steps={TRAIL_STEPS}"
    return Condition(name="success", overrides=(trail, "backends.torch.snapshots=5", algorithm))


def final_success(outcome: Outcome) -> float:
    """Return the success on held-out tasks at the end."""
    return outcome.final["trail"]


def last_success(outcome: Outcome) -> float:
    """Return the mean success of the last steps' rollouts: 320 episodes a seed."""
    return fmean(_known(outcome, "rollout/success")[-_LAST:])


def staleness(outcome: Outcome) -> float:
    """Return how many versions old a trained token was on average."""
    return fmean(_known(outcome, "rollout/staleness"))


def masked(outcome: Outcome) -> float:
    """Return the share of tokens whose chunk was too old to be trained."""
    return fmean(_known(outcome, "rollout/stale_share"))


def _known(outcome: Outcome, name: str) -> list[float]:
    return [value for value in outcome.curve(name) if math.isfinite(value)]


def main() -> int:
    """Run the study as asked."""
    options = parse_options("asynchrony", __doc__)
    outcomes = run_study(options, [condition()], arms(), range(options.seeds))
    success = success_table(outcomes, final_success)
    tables = {
        "success": success,
        "differences": comparison_table(outcomes, final_success, against=SYNCHRONOUS),
        "last": comparison_table(outcomes, last_success, against=SYNCHRONOUS),
        "staleness": figure_table(outcomes, staleness),
        "masked": success_table(outcomes, masked),
    }
    write_page("asynchrony", options.results, tables)
    plot_curves(outcomes, "rollout/success", options.results / "asynchrony-success.svg", ylabel="success of rollouts")
    print(success)
    return 0


if __name__ == "__main__":
    sys.exit(main())
