"""What each context strategy keeps of a task, and what that costs.

    python -m experiments.context           # arms A and C, scripted; minutes on two cores
    python -m experiments.context --arm b   # a small real model answers from what was kept; resumable, slow
    python -m experiments.context --quick   # under a minute: the main separation, or exit status 1

Arm A plays twelve families of tasks with every strategy through the runner and the pipeline that training uses; arm C
cuts each conversation once at every legal place. Tables and plots go to docs/results.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from experiments.context.answering import agreement_table, answer_table
from experiments.context.arms import ARMS, CEILING
from experiments.context.asking import MODEL_ARMS, ask_all, load_answers
from experiments.context.cuts import Cut
from experiments.context.drawing import plot_completion, plot_cost, plot_cuts
from experiments.context.families import FAMILIES
from experiments.context.grid import play_batches, play_cuts
from experiments.context.measures import Measured
from experiments.context.records import load_played, save_played
from experiments.context.scores import by_task, difference
from experiments.context.tables import (
    arm_table,
    cost_table,
    cut_table,
    difference_table,
    family_table,
    late_table,
    of_arm,
    signed,
)
from experiments.study.report import write_page

_ROOT = Path(__file__).parent.parent.parent
_QUICK_FAMILIES = ("shown-once fact", "rule in a tool result")
_LADDER = ("mask-observations", "summary", "window, notes")
"""Each keeps more than the one before."""
_CUT_SEEDS = 5
_PAIRS = (
    ("summary", "mask-observations"),
    ("window, notes", "summary"),
    ("window, notes", "mask-observations"),
    ("mask-then-summary", "summary"),
    ("window", "random drop"),
    ("window, retrieval", "window"),
    ("reset-with-handoff", "summary"),
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What was asked for."""

    arm: str
    quick: bool
    report: bool
    seeds: int
    workers: int
    out: Path
    results: Path


def parse_options() -> Options:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.context", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--arm", choices=("a", "b"), default="a", help="a: scripted, with arm C; b: a real model")
    parser.add_argument("--quick", action="store_true", help="the main separation alone; ends with 1 without it")
    parser.add_argument("--report", action="store_true", help="only write tables and plots of what was played")
    parser.add_argument("--seeds", type=int, help="tasks of each family; default: 40, arm B 5, quick 24")
    parser.add_argument("--workers", type=int, default=2, help="processes at a time; default: %(default)s")
    parser.add_argument("--out", type=Path, default=_ROOT / "runs" / "experiments" / "context")
    parser.add_argument("--results", type=Path, default=_ROOT / "docs" / "results", help="folder of tables and plots")
    args = parser.parse_args()
    seeds = args.seeds or (24 if args.quick else 5 if args.arm == "b" else 40)
    return Options(**{**vars(args), "seeds": seeds})


def check_separation(options: Options) -> int:
    """Return 0 if masking keeps less than a summary and that less than notes, and no rule is broken; else 1."""
    arms = [CEILING.name, *_LADDER]
    measured = play_batches(arms, _QUICK_FAMILIES, range(options.seeds), workers=options.workers)
    print(family_table(measured))
    holds = all(each.success for each in of_arm(measured, CEILING.name)) and not sum(m.violations for m in measured)
    for family in _QUICK_FAMILIES:
        for worse, better in pairwise(_LADDER):
            gain = difference(by_task(of_arm(measured, better)), by_task(of_arm(measured, worse)), [family])
            print(f"{family}: {better} less {worse}: {signed(gain)} points")
            holds = holds and gain.low > 0
    return 0 if holds else 1


def write_results(options: Options, measured: Sequence[Measured], cuts: Sequence[Cut]) -> None:
    """Write the page and its plots; arm B's tables are those of the answers that are there."""
    answers = load_answers(options.out / "answers.jsonl")
    write_page(
        "context",
        options.results,
        {
            "arms": arm_table(measured),
            "costs": cost_table(measured),
            "families": family_table(measured),
            "differences": difference_table(measured, _PAIRS, _QUICK_FAMILIES),
            "late": late_table(measured, "pending calls"),
            "cuts": cut_table(cuts),
            "answers": answer_table(answers),
            "agreement": agreement_table(answers, _PAIRS),
        },
    )
    plot_completion(measured, options.results / "context-completion.svg")
    plot_cost(measured, options.results / "context-cost.svg")
    plot_cuts(cuts, options.results / "context-cuts.svg")


def main() -> int:
    """Do what was asked for."""
    options = parse_options()
    if options.quick:
        return check_separation(options)
    if options.arm == "b":
        ask_all(MODEL_ARMS, range(options.seeds), options.out, threads=options.workers)
        print(answer_table(load_answers(options.out / "answers.jsonl")))
        return 0
    if not options.report:
        families, seeds = list(FAMILIES), range(options.seeds)
        measured = play_batches([arm.name for arm in ARMS], families, seeds, workers=options.workers)
        save_played(options.out, measured, play_cuts(families, range(_CUT_SEEDS), workers=options.workers))
    measured, cuts = load_played(options.out)
    write_results(options, measured, cuts)
    print(arm_table(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())
