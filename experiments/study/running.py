"""Runs a study from its bases to its outcomes. The registry of all studies is `experiments/registry.toml`."""

from collections.abc import Sequence
from pathlib import Path

from experiments.study.bases import find_bases, make_bases
from experiments.study.cells import Arm, Condition, cross
from experiments.study.command import Options
from experiments.study.outcomes import Outcome, read_outcomes
from experiments.study.work import run_cells

__all__ = ["run_study"]

_REGISTRY = Path(__file__).parent.parent / "registry.toml"
_FIRST_EVALUATION = 1000


def run_study(
    options: Options,
    conditions: Sequence[Condition],
    arms: Sequence[Arm],
    seeds: Sequence[int],
    *,
    run: str = "arm",
    base: str = "base",
) -> list[Outcome]:
    """Run what is missing, all arms of a seed from one model, and return everything that is finished.

    Each seed has a base, training tasks and held-out tasks of its own, the same for all its arms.

    Args:
        options: where to, and how many at a time; with `report` nothing runs.
        conditions: the circumstances.
        arms: what is compared under each of them.
        seeds: of the runs and of the models that they start from.
        run: the registry's run that every cell is a variant of.
        base: the registry's run that makes the models.
    """
    if options.report:
        folders = find_bases(base, seeds, options.bases)
    else:
        folders = make_bases(_REGISTRY, base, seeds, options.bases, workers=options.workers)
    starts = {
        seed: (f'models.base.path="{folder}"', f"runs.{run}.eval.seed={_FIRST_EVALUATION + seed}")
        for seed, folder in folders.items()
    }
    cells = cross(run, conditions, arms, seeds, per_seed=starts)
    if not options.report:
        run_cells(_REGISTRY, cells, options.out, workers=options.workers)
    return read_outcomes(_REGISTRY, cells, options.out)
