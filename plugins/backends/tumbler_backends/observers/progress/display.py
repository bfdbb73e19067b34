"""Show a run's progress: live on a terminal, as plain lines elsewhere, and sum it up at the end.

Progress goes to standard error, the summary to standard output.
"""

import atexit
import time
from collections.abc import Callable

from rich.console import Console
from rich.live import Live

from tumbler.contracts.values import JSONObject
from tumbler.observers import RunInfo, StageInfo, StepMetrics
from tumbler.trajectory import Trajectory
from tumbler_backends.observers.progress.board import Board
from tumbler_backends.observers.progress.lines import Lines
from tumbler_backends.observers.progress.state import RunProgress
from tumbler_backends.observers.progress.summary import print_summary

__all__ = ["Display"]

_FRAMES_PER_SECOND = 5


class Display:
    """The display of one run in this process, from `start` to `finish` or `stop`."""

    def __init__(
        self, run: RunInfo, *, errors: Console, output: Console, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Show the run on `errors` and its summary on `output`; nothing is written yet."""
        self._run = run
        self._errors = errors
        self._output = output
        self._progress = RunProgress(run, clock)
        self._live: Live | None = None
        self._lines: Lines | None = None

    def start(self) -> None:
        """Begin to show."""
        if not self._errors.is_terminal or self._errors.is_dumb_terminal:
            self._lines = Lines(self._progress, self._write_line)
            return
        board = Board(self._progress)
        self._live = Live(board, console=self._errors, refresh_per_second=_FRAMES_PER_SECOND)
        self._live.start(refresh=True)
        # A process that is killed cannot show the cursor again, so it is never hidden.
        self._errors.show_cursor(True)
        atexit.register(self.stop)

    def start_stage(self, stage: StageInfo) -> None:
        """Show that a stage starts."""
        progress = self._progress.start_stage(stage)
        if self._lines:
            self._lines.stage_started(progress)

    def finish_trajectory(self, stage: StageInfo, trajectory: Trajectory) -> None:
        """Show that an episode is over."""
        progress = self._progress.finish_trajectory(stage, trajectory)
        if self._lines:
            self._lines.advanced(progress)

    def finish_step(self, stage: StageInfo, metrics: StepMetrics) -> None:
        """Show a step's figures."""
        progress = self._progress.finish_step(stage, metrics)
        if self._lines:
            self._lines.advanced(progress)

    def finish_stage(self, stage: StageInfo, result: JSONObject) -> None:
        """Show what a stage came to."""
        progress = self._progress.finish_stage(stage, result)
        if self._lines:
            self._lines.stage_finished(progress)

    def finish(self, results: JSONObject) -> None:
        """Leave the last picture where it is and write the summary."""
        self.stop()
        print_summary(self._output, self._run.name, self._run.folder, results)

    def stop(self) -> None:
        """Give the terminal back; safe to call twice."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            atexit.unregister(self.stop)

    def _write_line(self, line: str) -> None:
        self._errors.print(line, markup=False, highlight=False, soft_wrap=True)
