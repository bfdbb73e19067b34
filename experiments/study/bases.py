"""The models that a study's arms start from: one supervised run for each seed, done once and shared by all arms."""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from experiments.study.cells import Cell
from experiments.study.work import run_cells

from tumbler.errors import RunError
from tumbler.run.command import trained_model

__all__ = ["find_bases", "make_bases"]


def make_bases(registry: Path, run: str, seeds: Sequence[int], root: Path, *, workers: int) -> dict[int, Path]:
    """Return seed → model folder, trained by a run of the registry that studies share.

    Raise `RunError` if a base could not be trained.
    """
    run_cells(registry, _cells(run, seeds), root, workers=workers)
    return find_bases(run, seeds, root)


def find_bases(run: str, seeds: Sequence[int], root: Path) -> dict[int, Path]:
    """Return seed → model folder of the bases that are there; raise `RunError` if one is missing.

    A folder's name holds a digest of the weights: runs that started from others are not taken for these.
    """
    found = {}
    for cell in _cells(run, seeds):
        folder = cell.folder(root)
        if not (folder / "results.json").exists():
            raise RunError(f"the model of seed {cell.seed} is not trained: {folder} holds no results.json")
        found[cell.seed] = _named_by_weights(trained_model(folder), root / "models" / f"{run}-{cell.seed}")
    return found


def _cells(run: str, seeds: Sequence[int]) -> list[Cell]:
    return [Cell(run=run, condition=run, arm="sft", seed=seed) for seed in seeds]


def _named_by_weights(model: Path, stem: Path) -> Path:
    digest = hashlib.sha256()
    for file in sorted(model.glob("*.safetensors")):
        digest.update(file.read_bytes())
    target = stem.with_name(f"{stem.name}-{digest.hexdigest()[:12]}")
    if not target.exists():
        part = target.with_name(f"{target.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(model, part)
        part.rename(target)
    return target.resolve()
