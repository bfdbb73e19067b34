"""The live display's picture of a run; knows how it looks, not when it is drawn."""

import math

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from tumbler_backends.observers.progress.figures import clock_time, key_figures, outcome, unit
from tumbler_backends.observers.progress.state import RunProgress, StageProgress

__all__ = ["Board"]


class Board:
    """Draws a run's progress anew each time it is rendered."""

    def __init__(self, progress: RunProgress) -> None:
        """Keep the progress to draw."""
        self._progress = progress
        self._spinner = Spinner("dots", style="cyan")

    def __rich__(self) -> RenderableType:
        """Return the run as it stands now."""
        run = self._progress.run
        title = Text.assemble(
            ("tumbler ", "bold cyan"), (run.name, "bold"), ("  resumed" if run.resumed else "", "dim")
        )
        title.append(f"  {clock_time(self._progress.elapsed)}", style="dim")
        title.no_wrap, title.overflow = True, "ellipsis"
        running = [stage for stage in self._progress.stages.values() if stage.status == "running"]
        return Group(title, self._stages(), *(self._figures(stage) for stage in running))

    def _stages(self) -> Table:
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(width=1)
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=18)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        table.add_column(justify="right", no_wrap=True)
        for stage in self._progress.stages.values():
            table.add_row(*self._row(stage))
        return table

    def _row(self, stage: StageProgress) -> tuple[RenderableType, RenderableType, RenderableType, RenderableType]:
        label = stage.info.label
        if stage.status == "done":
            earlier = stage.seconds is None or math.isnan(stage.seconds)
            time = "done earlier" if earlier else clock_time(stage.seconds)
            return Text("✓", "green"), Text(label), Text(outcome(stage), "dim"), Text(time, "dim")
        if stage.status == "waiting":
            return Text("·", "dim"), Text(label, "dim"), Text(""), Text(f"{stage.info.steps} {unit(stage)}", "dim")
        bar = ProgressBar(total=max(stage.info.steps, 1), completed=stage.done, complete_style="cyan")
        left = clock_time(stage.remaining(self._progress.clock()))
        counted = Text.assemble(f"{stage.done}/{stage.info.steps} {unit(stage)}", (f"  {left} left", "dim"))
        return self._spinner, Text(label, "bold"), bar, counted

    def _figures(self, stage: StageProgress) -> RenderableType:
        figures = [
            Text.assemble((f"{name} ", "dim"), (value, "red" if name == "infra failures" else "bold"), no_wrap=True)
            for name, value in key_figures(stage)
        ]
        return Padding(Columns(figures, padding=(0, 3)), (0, 0, 0, 2))
