"""The models that a study's arms start from: one supervised run for each seed, done once and shared by all arms."""

from collections.abc import Sequence
from pathlib import Path

from experiments.study.cells import Cell
from experiments.study.work import run_cells

from tumbler.run.command import trained_model

__all__ = ["make_bases"]


def make_bases(registry: Path, run: str, seeds: Sequence[int], root: Path, *, workers: int) -> dict[int, Path]:
    """Return seed → model folder, trained by a run of the registry that studies share."""
    cells = [Cell(run=run, condition=run, arm="sft", seed=seed) for seed in seeds]
    run_cells(registry, cells, root, workers=workers)
    return {cell.seed: trained_model(cell.folder(root)).resolve() for cell in cells}
