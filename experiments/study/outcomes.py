"""Reads what the cells of a study brought: evaluations, learning curves, token counts."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from experiments.study.cells import Cell

from tumbler_backends.observers.jsonl.journal import read_metrics

__all__ = ["Outcome", "read_outcomes"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one cell brought."""

    cell: Cell
    evaluations: tuple[Mapping[str, float], ...]
    """For each `eval` stage in order: environment → success rate."""
    steps: tuple[Mapping[str, float], ...]
    """The metrics of each training step of the last `rl` stage."""
    seconds: float

    @property
    def final(self) -> Mapping[str, float]:
        """Return the last evaluation: environment → success rate."""
        return self.evaluations[-1]

    def curve(self, name: str) -> tuple[float, ...]:
        """Return a metric over the training steps; NaN where a step has none."""
        return tuple(step.get(name, math.nan) for step in self.steps)

    @property
    def sampled_tokens(self) -> tuple[float, ...]:
        """Return how many tokens had been sampled after each training step."""
        total, sums = 0.0, []
        for step in self.steps:
            total += step.get("rollout/tokens", 0.0) * step.get("rollout/episodes", 0.0)
            sums.append(total)
        return tuple(sums)


def read_outcomes(cells: Iterable[Cell], root: Path) -> list[Outcome]:
    """Return the outcomes of all cells that are finished."""
    return [_read(cell, cell.folder(root)) for cell in cells if (cell.folder(root) / "results.json").exists()]


def _read(cell: Cell, folder: Path) -> Outcome:
    results = json.loads((folder / "results.json").read_text())
    evaluations = [
        {name: entry["success_rate"] for name, entry in stage["envs"].items()}
        for stage in results["stages"]
        if stage["kind"] == "eval"
    ]
    return Outcome(cell=cell, evaluations=tuple(evaluations), steps=_steps(folder), seconds=results["seconds"])


def _steps(folder: Path) -> tuple[Mapping[str, float], ...]:
    """Return the metrics of the last `rl` stage's steps."""
    records = [each for each in read_metrics(folder) if each.kind == "rl"]
    return tuple(each.values for each in records if each.stage == records[-1].stage)
