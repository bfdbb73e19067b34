"""The jsonl observer's hooks: every step and stage result goes into the run folder's `metrics.jsonl`."""

from collections.abc import Mapping

from tumbler import hookimpl
from tumbler.contracts.values import JSON
from tumbler.observers import RunInfo, StageInfo, StepMetrics

__all__ = ["tumbler_stage_finished", "tumbler_step_finished"]


@hookimpl
def tumbler_step_finished(run: RunInfo, stage: StageInfo, metrics: StepMetrics) -> None:
    """Append the step's metrics."""
    from tumbler_backends.observers.jsonl.journal import append_step

    append_step(run, stage, metrics)


@hookimpl
def tumbler_stage_finished(run: RunInfo, stage: StageInfo, result: Mapping[str, JSON]) -> None:
    """Append the stage's result."""
    from tumbler_backends.observers.jsonl.journal import append_result

    append_result(run, stage, result)
