"""The progress display's hooks. `TUMBLER_PROGRESS=off` or `[plugins] disable = ["progress"]` turns it off."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.contracts.values import JSON
from tumbler.observers import RunInfo, StageInfo, StepMetrics
from tumbler.trajectory.record import Trajectory

if TYPE_CHECKING:
    from tumbler_backends.observers.progress.display import Display

__all__ = [
    "tumbler_run_finished",
    "tumbler_run_started",
    "tumbler_stage_finished",
    "tumbler_stage_started",
    "tumbler_step_finished",
    "tumbler_trajectory_finished",
]

_displays: "dict[str, Display]" = {}
"""The display of the run under way, by the run's id; a process has one terminal, so there is at most one."""


@hookimpl
def tumbler_run_started(run: RunInfo) -> None:
    """Open the display; one that a failed run left open is closed first."""
    while _displays:
        _displays.popitem()[1].stop()
    if os.environ.get("TUMBLER_PROGRESS", "").lower() in ("0", "off", "no", "false"):
        return
    from rich.console import Console

    from tumbler_backends.observers.progress.display import Display

    _displays[run.id] = display = Display(run, errors=Console(stderr=True), output=Console())
    display.start()


@hookimpl
def tumbler_stage_started(run: RunInfo, stage: StageInfo) -> None:
    """Show that a stage starts."""
    if display := _displays.get(run.id):
        display.start_stage(stage)


@hookimpl
def tumbler_trajectory_finished(run: RunInfo, stage: StageInfo, trajectory: Trajectory) -> None:
    """Count the episode."""
    if display := _displays.get(run.id):
        display.finish_trajectory(stage, trajectory)


@hookimpl
def tumbler_step_finished(run: RunInfo, stage: StageInfo, metrics: StepMetrics) -> None:
    """Show the step's figures."""
    if display := _displays.get(run.id):
        display.finish_step(stage, metrics)


@hookimpl
def tumbler_stage_finished(run: RunInfo, stage: StageInfo, result: Mapping[str, JSON]) -> None:
    """Show what the stage came to."""
    if display := _displays.get(run.id):
        display.finish_stage(stage, result)


@hookimpl
def tumbler_run_finished(run: RunInfo, result: Mapping[str, JSON]) -> None:
    """Close the display and sum the run up."""
    if display := _displays.pop(run.id, None):
        display.finish(result)
