"""Progress as plain lines, for logs and pipes: at each stage's ends, and in between now and then."""

from collections.abc import Callable

from tumbler_backends.observers.progress.figures import clock_time, key_figures, outcome, unit
from tumbler_backends.observers.progress.state import RunProgress, StageProgress

__all__ = ["Lines"]

_SECONDS_BETWEEN = 10.0


class Lines:
    """Writes progress lines through `write`, which gets each without its end."""

    def __init__(self, progress: RunProgress, write: Callable[[str], None]) -> None:
        """Say that the run starts."""
        self._progress = progress
        self._write = write
        self._last = progress.clock()
        run = progress.run
        self._say(f"{run.name}: {'resumed' if run.resumed else 'started'} in {run.folder}")

    def stage_started(self, stage: StageProgress) -> None:
        """Write a stage's first line."""
        self._say(f"{stage.info.label}: started, {stage.info.steps} {unit(stage)}")

    def advanced(self, stage: StageProgress) -> None:
        """Write a line if the last one is some time ago."""
        now = self._progress.clock()
        if now - self._last < _SECONDS_BETWEEN:
            return
        figures = ", ".join(f"{name} {value}" for name, value in key_figures(stage))
        counted = f"{stage.done}/{stage.info.steps} {unit(stage)}"
        left = stage.remaining(now)
        time = [] if left is None else [f"{clock_time(left)} left"]
        self._say(f"{stage.info.label}: " + ", ".join([counted, *filter(None, [figures]), *time]))

    def stage_finished(self, stage: StageProgress) -> None:
        """Write a stage's last line."""
        end = outcome(stage)
        self._say(f"{stage.info.label}: done in {clock_time(stage.seconds)}" + (f", {end}" if end else ""))

    def _say(self, line: str) -> None:
        self._last = self._progress.clock()
        self._write(f"[{clock_time(self._progress.elapsed)}] {line}")
