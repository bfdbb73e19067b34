"""The observer hooks: what happens in a run, told to whoever wants to know.

An observer that raises is logged with its plugin's name and never stops a run. A plugin module may
implement any of them beside its registration hooks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tumbler.contracts.values import JSON, JSONObject
from tumbler.markers import hookspec
from tumbler.trajectory.record import Trajectory

__all__ = [
    "RunInfo",
    "StageInfo",
    "StepMetrics",
    "tumbler_checkpoint_saved",
    "tumbler_report",
    "tumbler_run_finished",
    "tumbler_run_started",
    "tumbler_stage_finished",
    "tumbler_stage_started",
    "tumbler_step_finished",
    "tumbler_trajectory_finished",
]


@dataclass(frozen=True, kw_only=True)
class StageInfo:
    """One stage of a run."""

    index: int
    kind: str
    """sft, rl or eval."""
    label: str
    """Unique in the run: "2-eval"."""
    steps: int
    """Steps (sft, rl) or episodes (eval) that the stage will take."""


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """The run that is observed."""

    id: str
    """Unique for each process that works on the run."""
    name: str
    folder: Path
    resolved: JSONObject
    """The resolved registry run, as in `run.json`."""
    stages: tuple[StageInfo, ...]
    resumed: bool = False


@dataclass(frozen=True, kw_only=True)
class StepMetrics:
    """One step's figures."""

    step: int
    """From 0, within the stage."""
    values: Mapping[str, float]
    """Name → value; names are `group/name`: train/loss, rollout/success, time/model_s."""
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Values for histograms: chunk ratios, chunk mismatches."""


@hookspec
def tumbler_run_started(run: RunInfo) -> None:
    """Hear that a run starts or resumes; its folder and `run.json` exist.

    Example:
        ```python
        from tumbler import hookimpl
        from tumbler.observers import RunInfo


        @hookimpl
        def tumbler_run_started(run: RunInfo) -> None:
            with (run.folder / "notes.txt").open("a", encoding="utf-8") as notes:
                print("resumed" if run.resumed else "started", run.name, file=notes)
        ```
    """


@hookspec
def tumbler_stage_started(run: RunInfo, stage: StageInfo) -> None:
    """Hear that a stage starts.

    Example:
        ```python
        from tumbler import hookimpl
        from tumbler.observers import RunInfo, StageInfo


        @hookimpl
        def tumbler_stage_started(run: RunInfo, stage: StageInfo) -> None:
            print(f"{run.name}: {stage.label} ({stage.index + 1} of {len(run.stages)}), {stage.steps} steps")
        ```
    """


@hookspec
def tumbler_trajectory_finished(run: RunInfo, stage: StageInfo, trajectory: Trajectory) -> None:
    """Hear of each finished episode, failed ones too.

    Example:
        ```python
        from tumbler import hookimpl
        from tumbler.observers import RunInfo, StageInfo
        from tumbler.trajectory.record import Trajectory


        @hookimpl
        def tumbler_trajectory_finished(run: RunInfo, stage: StageInfo, trajectory: Trajectory) -> None:
            if trajectory.judged:
                print(f"{run.name}, {stage.label}: {trajectory.header.task} earned {trajectory.reward}")
        ```
    """


@hookspec
def tumbler_step_finished(run: RunInfo, stage: StageInfo, metrics: StepMetrics) -> None:
    """Hear of each training step.

    Example:
        ```python
        from tumbler import hookimpl
        from tumbler.observers import RunInfo, StageInfo, StepMetrics


        @hookimpl
        def tumbler_step_finished(run: RunInfo, stage: StageInfo, metrics: StepMetrics) -> None:
            for name, value in sorted(metrics.values.items()):
                print(f"{run.name}, {stage.label} step {metrics.step}: {name} = {value:.4g}")
        ```
    """


@hookspec
def tumbler_stage_finished(run: RunInfo, stage: StageInfo, result: Mapping[str, JSON]) -> None:
    """Hear that a stage is done; `result` is its entry in `results.json`.

    Example:
        ```python
        from collections.abc import Mapping

        from tumbler import hookimpl
        from tumbler.contracts.values import JSON
        from tumbler.observers import RunInfo, StageInfo


        @hookimpl
        def tumbler_stage_finished(run: RunInfo, stage: StageInfo, result: Mapping[str, JSON]) -> None:
            print(f"{run.name}, {stage.label}: {dict(result)}")
        ```
    """


@hookspec
def tumbler_checkpoint_saved(run: RunInfo, stage: StageInfo, path: Path) -> None:
    """Hear that a checkpoint folder is complete.

    Example:
        ```python
        from pathlib import Path

        from tumbler import hookimpl
        from tumbler.observers import RunInfo, StageInfo


        @hookimpl
        def tumbler_checkpoint_saved(run: RunInfo, stage: StageInfo, path: Path) -> None:
            (run.folder / "newest.txt").write_text(f"{stage.label}: {path}", encoding="utf-8")
        ```
    """


@hookspec
def tumbler_run_finished(run: RunInfo, result: Mapping[str, JSON]) -> None:
    """Hear that the run is done; `result` is `results.json`.

    Example:
        ```python
        from collections.abc import Mapping

        from tumbler import hookimpl
        from tumbler.contracts.values import JSON
        from tumbler.observers import RunInfo


        @hookimpl
        def tumbler_run_finished(run: RunInfo, result: Mapping[str, JSON]) -> None:
            print(f"{run.name} is done: {dict(result)}")
        ```
    """


@hookspec
def tumbler_report(folder: Path) -> Path | None:
    """Write a report of the run in `folder` and return its path; None if this plugin writes none.

    Example:
        ```python
        from pathlib import Path

        from tumbler import hookimpl


        @hookimpl
        def tumbler_report(folder: Path) -> Path | None:
            results = folder / "results.json"
            if not results.exists():
                return None
            report = folder / "report.txt"
            report.write_text(results.read_text(encoding="utf-8"), encoding="utf-8")
            return report
        ```
    """
