"""The metrics journal `metrics.jsonl`: how a line is written and how the file is read back."""

import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tumbler.contracts.values import JSON, JSONObject
from tumbler.observers import RunInfo, StageInfo, StepMetrics
from tumbler_backends.observers.reading import integer, number, table, text

__all__ = [
    "FILE_NAME",
    "SAMPLE_LIMIT",
    "StepRecord",
    "append_result",
    "append_step",
    "read_metrics",
    "read_stage_results",
]

FILE_NAME = "metrics.jsonl"
SAMPLE_LIMIT = 512
"""Values kept of one histogram in one line."""


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One training step as the journal has it."""

    attempt: str
    """The id of the process that took the step."""
    stage: str
    kind: str
    step: int
    time: float
    """Unix time in seconds at which the step was reported."""
    values: Mapping[str, float]
    """A figure that was not finite is NaN."""
    samples: Mapping[str, tuple[float, ...]]


def append_step(run: RunInfo, stage: StageInfo, metrics: StepMetrics) -> None:
    """Append one step's metrics to the run's journal."""
    _append(
        run,
        stage,
        {
            "step": metrics.step,
            "values": {name: _finite(value) for name, value in metrics.values.items()},
            "samples": {name: _thinned(values) for name, values in metrics.samples.items()},
        },
    )


def append_result(run: RunInfo, stage: StageInfo, result: Mapping[str, JSON]) -> None:
    """Append a finished stage's result to the run's journal."""
    _append(run, stage, {"result": dict(result)})


def read_metrics(folder: Path) -> tuple[StepRecord, ...]:
    """Return the steps of the run in `folder`, ordered by stage and step; none without a journal.

    A step that was taken again after a resume is there once, as it was last taken, and steps that a
    resume has set back and not yet reached again are left out. Torn lines are skipped.
    """
    stages: dict[str, dict[int, StepRecord]] = {}
    for line in _lines(folder):
        if "step" not in line:
            continue
        record = _record(line)
        steps = stages.setdefault(record.stage, {})
        for step in [s for s, old in steps.items() if s >= record.step and old.attempt != record.attempt]:
            del steps[step]
        steps[record.step] = record
    return tuple(steps[step] for steps in stages.values() for step in sorted(steps))


def read_stage_results(folder: Path) -> tuple[JSONObject, ...]:
    """Return the last result of each finished stage in the journal, in the order in which they finished first."""
    results = {text(line.get("stage")): table(line["result"]) for line in _lines(folder) if "result" in line}
    return tuple(results.values())


def _append(run: RunInfo, stage: StageInfo, fields: JSONObject) -> None:
    line = {"attempt": run.id, "stage": stage.label, "kind": stage.kind, "time": round(time.time(), 3), **fields}
    encoded = json.dumps(line, separators=(",", ":")).encode("ascii") + b"\n"
    with (run.folder / FILE_NAME).open("ab+") as file:
        # A process that was killed while it wrote leaves a line without an end; ours must not join it.
        if file.seek(0, os.SEEK_END) > 0:
            file.seek(-1, os.SEEK_END)
            encoded = encoded if file.read(1) == b"\n" else b"\n" + encoded
        file.write(encoded)
        file.flush()


def _lines(folder: Path) -> Iterator[JSONObject]:
    path = folder / FILE_NAME
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                parsed = json.loads(line)
            except ValueError:
                continue
            if isinstance(parsed, dict):
                yield parsed


def _record(line: JSONObject) -> StepRecord:
    samples = {name: _numbers(values) for name, values in table(line.get("samples")).items()}
    return StepRecord(
        attempt=text(line.get("attempt")),
        stage=text(line.get("stage")),
        kind=text(line.get("kind")),
        step=integer(line["step"]),
        time=number(line.get("time")) or 0.0,
        values={name: _or_nan(value) for name, value in table(line.get("values")).items()},
        samples=samples,
    )


def _numbers(values: JSON) -> tuple[float, ...]:
    if isinstance(values, str) or not isinstance(values, Sequence):
        return ()
    found = (number(value) for value in values)
    return tuple(value for value in found if value is not None)


def _or_nan(value: JSON) -> float:
    found = number(value)
    return math.nan if found is None else found


def _finite(value: float) -> float | None:
    # JSON has no NaN and no infinity, and readers in other languages refuse Python's.
    return float(value) if math.isfinite(value) else None


def _thinned(values: Sequence[float]) -> list[float]:
    """Return at most `SAMPLE_LIMIT` of the finite values: their evenly spaced quantiles, with both ends."""
    ordered = sorted(float(f"{value:.6g}") for value in values if math.isfinite(value))
    if len(ordered) <= SAMPLE_LIMIT:
        return ordered
    stride = (len(ordered) - 1) / (SAMPLE_LIMIT - 1)
    return [ordered[round(index * stride)] for index in range(SAMPLE_LIMIT)]
