"""Rollouts from anchors against rollouts from the start, on tasks with one crucial chunk.

    python -m experiments.resampling            # five seeds; about an hour on two cores; interrupted, it goes on
    python -m experiments.resampling --quick    # minutes: the sign of the main effect, or exit status 1

Half-way through each trail one key of 32 leads on, the demonstrations hardly ever show which, and a wrong one looks
right until the end. All arms sample the same number of tokens. Tables and plots go to docs/results.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.study.cells import Arm, Condition
from experiments.study.command import Options, parse_options
from experiments.study.intervals import paired
from experiments.study.outcomes import Outcome
from experiments.study.plots import plot_curves
from experiments.study.report import write_page
from experiments.study.running import run_study
from experiments.study.tables import success_table, values_of

QUICK_SEEDS = (0, 1)
CONDITION = Condition(name="one crucial chunk")
QUICK = Condition(name="fewer tokens", overrides=("runs.fork-arm.rl.token_budget=60000",))
_SETTINGS = 'use = "ipa", tasks_per_step = 8, group_size = 8, minibatches = 4, failure_reward = 0.0'
_PARALLEL = "share = 0.75, per_task = 2, group_size = 4"
ANCHORS = {
    "naive": "anchors = { share = 0.0 }",
    "sequential rollback": 'anchors = { mode = "rollback", share = 1.0, per_task = 2, group_size = 4 }',
    "parallel, uniform": f"anchors = {{ {_PARALLEL} }}",
    "parallel, random": f'anchors = {{ {_PARALLEL}, choice = "random" }}',
    "parallel, frontier": f'anchors = {{ {_PARALLEL}, choice = "success-frontier" }}',
    "sequential rollback + imitation": (
        'anchors = { mode = "rollback", share = 1.0, per_task = 2, group_size = 4 }, imitation_weight = 0.1'
    ),
    "parallel, random + imitation": f'anchors = {{ {_PARALLEL}, choice = "random" }}, imitation_weight = 0.1',
}


def arms() -> list[Arm]:
    """Return IPA with each way to choose where rollouts start."""
    return [
        Arm(name=name, overrides=(f"algorithms.arm={{ {_SETTINGS}, {anchors} }}",)) for name, anchors in ANCHORS.items()
    ]


def final_success(outcome: Outcome) -> float:
    """Return the success on held-out tasks at the end, from the start."""
    return outcome.final["fork"]


def compare(
    options: Options, compared: Sequence[Arm], seeds: Sequence[int], *, condition: Condition = CONDITION
) -> list[Outcome]:
    """Run what is missing and return everything."""
    return run_study(options, [condition], compared, seeds, run="fork-arm", base="fork-base")


def check_main_effect(options: Options) -> int:
    """Return 0 if rollouts from anchors end above rollouts from the start, else 1."""
    compared = [arm for arm in arms() if arm.name in ("naive", "sequential rollback + imitation")]
    outcomes = compare(options, compared, QUICK_SEEDS, condition=QUICK)
    naive, anchored = (values_of(outcomes, QUICK.name, arm.name, final_success) for arm in compared)
    difference = paired(list(anchored.values()), list(naive.values()))
    print(success_table(outcomes, final_success))
    print(f"anchors less naive: {100 * difference.mean:+.1f} points")
    return 0 if difference.mean > 0 else 1


def found_chunks(outcomes: Sequence[Outcome], root: Path) -> str:
    """Return how often each arm found the crucial chunk, and how often it took another for one."""
    rows = ["| arm | runs | found it | named others |", "|---|---|---|---|"]
    for arm in ANCHORS:
        chosen = [each for each in outcomes if each.cell.arm == arm]
        named = [_named(each.cell.folder(root)) for each in chosen]
        found = sum(bool(each & CRUCIAL_LEFT) for each in named)
        others = sum(bool(each - CRUCIAL_LEFT) for each in named)
        rows.append(f"| {arm} | {len(chosen)} | {found} | {others} |")
    return "\n".join(rows)


CRUCIAL_LEFT = frozenset({8, 9})
"""Chunks that are left at the fork: its own, those of three steps, the answer, and the word that all is done.

The last step has one chunk less where it is to compute something: the answer holds the outcome.
"""


def _named(folder: Path) -> set[int]:
    path = folder / "stages" / "1-rl" / "crucial.json"
    if not path.exists():
        return set()
    return {entry["left"] for entries in json.loads(path.read_text()).values() for entry in entries}


def write_results(options: Options, outcomes: Sequence[Outcome]) -> None:
    """Write tables and plots."""
    tables = {"success": success_table(outcomes, final_success), "crucial": found_chunks(outcomes, options.out)}
    write_page("resampling", options.results, tables)
    path = options.results / "resampling-success.svg"
    plot_curves(outcomes, "rollout/success", path, ylabel="success of the rollouts that are trained")


def main() -> int:
    """Run the study as asked."""
    options = parse_options("resampling", __doc__)
    if options.quick:
        return check_main_effect(options)
    outcomes = compare(options, arms(), range(options.seeds))
    write_results(options, outcomes)
    print(success_table(outcomes, final_success))
    return 0


if __name__ == "__main__":
    sys.exit(main())
