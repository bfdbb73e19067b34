"""How far a run is: what the observer hooks told, counted. Knows no terminal."""

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tumbler.contracts.values import JSONObject
from tumbler.observers import RunInfo, StageInfo, StepMetrics
from tumbler.trajectory import Trajectory

__all__ = ["RunProgress", "StageProgress"]

_RECENT = 64
"""Judged episodes of the policy whose success is shown while a step's own figures are not there yet."""


@dataclass
class StageProgress:
    """One stage as the display sees it."""

    info: StageInfo
    started: float | None = None
    """On the run's clock; None before the stage starts."""
    seconds: float | None = None
    """How long the stage took in this process; None before it is done."""
    done: int = 0
    """Steps (sft, rl) or episodes (eval) finished, those of earlier processes included."""
    timed_from: int | None = None
    """What was done already when this process began to count; None before its first step."""
    values: Mapping[str, float] = field(default_factory=dict)
    """The last step's figures."""
    episodes: int = 0
    """Judged episodes in this process."""
    infra_failed: int = 0
    recent: deque[bool] = field(default_factory=lambda: deque(maxlen=_RECENT))
    result: JSONObject = field(default_factory=dict)

    @property
    def status(self) -> str:
        """Return waiting, running or done."""
        if self.seconds is not None:
            return "done"
        return "waiting" if self.started is None else "running"

    @property
    def success(self) -> float | None:
        """Return the last step's success rate, else that of recent episodes; None without any."""
        told = self.values.get("rollout/success")
        if told is not None and math.isfinite(told):
            return told
        return sum(self.recent) / len(self.recent) if self.recent else None

    def remaining(self, now: float) -> float | None:
        """Return the seconds that the stage still needs at this process's pace; None when not known."""
        counted = self.done - (self.timed_from or 0)
        if self.status != "running" or self.started is None or counted <= 0:
            return None
        return (now - self.started) / counted * max(self.info.steps - self.done, 0)


class RunProgress:
    """A run's stages; `clock` gives seconds that only grow."""

    def __init__(self, run: RunInfo, clock: Callable[[], float]) -> None:
        """Begin with every stage waiting."""
        self.run = run
        self.clock = clock
        self.began = clock()
        self.stages = {stage.label: StageProgress(info=stage) for stage in run.stages}

    @property
    def elapsed(self) -> float:
        """Return the seconds since this process began to work on the run."""
        return self.clock() - self.began

    def start_stage(self, stage: StageInfo) -> StageProgress:
        """Hear that a stage starts; those before it were finished by an earlier process, if not by this one."""
        for each in self.stages.values():
            if each.info.index < stage.index and each.seconds is None:
                each.seconds, each.done = math.nan, each.info.steps
        progress = self._stage(stage)
        progress.started = self.clock()
        return progress

    def finish_trajectory(self, stage: StageInfo, trajectory: Trajectory) -> StageProgress:
        """Count an episode: an evaluation's progress, or what a training step is waiting for."""
        progress = self._stage(stage)
        if trajectory.status == "infra_failed":
            progress.infra_failed += 1
        if not trajectory.judged:
            return progress
        progress.episodes += 1
        if trajectory.header.source == "policy":
            progress.recent.append(bool(trajectory.success))
        if stage.kind == "eval":
            progress.timed_from = progress.timed_from or 0
            progress.done = min(progress.done + 1, stage.steps)
        return progress

    def finish_step(self, stage: StageInfo, metrics: StepMetrics) -> StageProgress:
        """Take in a training step's figures."""
        progress = self._stage(stage)
        if progress.timed_from is None:
            progress.timed_from = metrics.step
        progress.done = metrics.step + 1
        progress.values = metrics.values
        return progress

    def finish_stage(self, stage: StageInfo, result: JSONObject) -> StageProgress:
        """Hear that a stage is done."""
        progress = self._stage(stage)
        now = self.clock()
        progress.seconds = now - (now if progress.started is None else progress.started)
        progress.done = stage.steps
        progress.result = result
        return progress

    def _stage(self, stage: StageInfo) -> StageProgress:
        return self.stages.setdefault(stage.label, StageProgress(info=stage))
