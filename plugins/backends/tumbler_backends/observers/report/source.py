"""Read what a report is made of from a run folder; every piece may be missing. Knows no HTML."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tumbler.contracts.values import JSONObject
from tumbler.errors import TrajectoryError
from tumbler.trajectory import Trajectory, trajectory_from_json
from tumbler_backends.observers.evaluation import Evaluation, evaluations
from tumbler_backends.observers.jsonl.journal import StepRecord, read_metrics, read_stage_results
from tumbler_backends.observers.reading import integer, objects, table, text

__all__ = ["RunSource", "StoredTrajectory", "read_run_source"]

_READ_LIMIT = 4 * 2**20
"""Bytes read from each end of a stage's trajectory file."""


@dataclass(frozen=True, kw_only=True)
class StoredTrajectory:
    """A trajectory and where it was found."""

    stage: str
    kind: str
    position: int
    """Place among the trajectories read from the stage's file, in the order in which they finished."""
    late: bool
    """Whether it lies in the second half of what was read."""
    trajectory: Trajectory


@dataclass(frozen=True, kw_only=True)
class RunSource:
    """All that a report shows."""

    folder: Path
    resolved: JSONObject
    results: JSONObject
    finished: bool
    stages: tuple[JSONObject, ...]
    evaluations: tuple[Evaluation, ...]
    steps: tuple[StepRecord, ...]
    trajectories: tuple[StoredTrajectory, ...]


def read_run_source(folder: Path) -> RunSource:
    """Read the run in `folder`; before there are results, the state tells how far it is."""
    results = _read_object(folder / "results.json")
    state = _read_object(folder / "state.json")
    stages = _stage_results(folder, [*objects(state.get("results")), *objects(results.get("stages"))])
    return RunSource(
        folder=folder,
        resolved=_read_object(folder / "run.json"),
        results=results or state,
        finished=bool(results),
        stages=stages,
        evaluations=evaluations(stages),
        steps=read_metrics(folder),
        trajectories=tuple(_trajectories(folder, stages)),
    )


def _read_object(path: Path) -> JSONObject:
    try:
        return table(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return {}


def _stage_results(folder: Path, newer: Sequence[JSONObject]) -> tuple[JSONObject, ...]:
    found = {text(stage.get("label")): stage for stage in (*read_stage_results(folder), *newer)}
    return tuple(sorted(found.values(), key=lambda stage: integer(stage.get("index"))))


def _trajectories(folder: Path, stages: Sequence[JSONObject]) -> Iterator[StoredTrajectory]:
    kinds = {text(stage.get("label")): text(stage.get("kind")) for stage in stages}
    for path in sorted(folder.glob("stages/*/trajectories.jsonl"), key=_stage_order):
        label = path.parent.name
        kind = kinds.get(label) or label.rpartition("-")[2]
        parsed = (trajectory for line in _bounded_lines(path) for trajectory in _parse(line))
        # An episode that was run again after a crash is in the file twice.
        found = list({(each.id, each.header.attempt): each for each in parsed}.values())
        for position, trajectory in enumerate(found):
            late = 2 * position >= len(found)
            yield StoredTrajectory(stage=label, kind=kind, position=position, late=late, trajectory=trajectory)


def _stage_order(path: Path) -> tuple[int, str]:
    number = path.parent.name.partition("-")[0]
    return (int(number) if number.isdecimal() else 0, path.parent.name)


def _bounded_lines(path: Path) -> list[bytes]:
    """Return the file's lines, or only its first and last ones if it is long."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if size <= 2 * _READ_LIMIT:
            return file.read().splitlines()
        head = file.read(_READ_LIMIT).splitlines()[:-1]
        file.seek(-_READ_LIMIT, os.SEEK_END)
        return head + file.read().splitlines()[1:]


def _parse(line: bytes) -> Iterator[Trajectory]:
    """Yield the line's trajectory, or nothing if the line is torn or not of this version."""
    try:
        yield trajectory_from_json(table(json.loads(line)))
    except (ValueError, TrajectoryError):
        return
