"""Reads what the cells of a study brought: evaluations, learning curves, token counts, failures."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from experiments.study.cells import Cell
from experiments.study.work import FAILURE, check_settings

from tumbler_backends.observers.jsonl.journal import StepRecord, read_metrics

__all__ = ["Outcome", "read_outcomes"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one cell brought."""

    cell: Cell
    evaluations: tuple[Mapping[str, float], ...] = ()
    """For each `eval` stage in order: environment → success rate."""
    steps: tuple[StepRecord, ...] = ()
    """The training steps of the last `rl` stage."""
    seconds: float = 0.0
    error: str = ""
    """What ended the run before its evaluation, such as a loss that was not finite; empty if nothing did."""

    @property
    def final(self) -> Mapping[str, float]:
        """Return the last evaluation: environment → success rate."""
        return self.evaluations[-1]

    def curve(self, name: str) -> tuple[float, ...]:
        """Return a metric over the training steps; NaN where a step has none."""
        return tuple(step.values.get(name, math.nan) for step in self.steps)

    def samples(self, name: str) -> tuple[float, ...]:
        """Return a histogram's values of all training steps together."""
        return tuple(value for step in self.steps for value in step.samples.get(name, ()))

    @property
    def sampled_tokens(self) -> tuple[float, ...]:
        """Return how many tokens had been sampled after each training step."""
        total, sums = 0.0, []
        for step in self.steps:
            total += step.values["rollout/sampled_tokens"]
            sums.append(total)
        return tuple(sums)


def read_outcomes(registry: Path, cells: Iterable[Cell], root: Path) -> list[Outcome]:
    """Return the outcomes of all cells that are finished or failed.

    Raise `ValueError` if a folder holds a run with other settings than its cell.
    """
    found = []
    for cell in cells:
        folder = cell.folder(root)
        if (folder / "results.json").exists() or (folder / FAILURE).exists():
            check_settings(registry, cell, folder)
            found.append(_read(cell, folder))
    return found


def _read(cell: Cell, folder: Path) -> Outcome:
    records = [each for each in read_metrics(folder) if each.kind == "rl"]
    steps = tuple(each for each in records if each.stage == records[-1].stage)
    if (folder / FAILURE).exists():
        return Outcome(cell=cell, steps=steps, error=json.loads((folder / FAILURE).read_text())["error"])
    results = json.loads((folder / "results.json").read_text())
    evaluations = [
        {name: entry["success_rate"] for name, entry in stage["envs"].items()}
        for stage in results["stages"]
        if stage["kind"] == "eval"
    ]
    return Outcome(cell=cell, evaluations=tuple(evaluations), steps=steps, seconds=results["seconds"])
