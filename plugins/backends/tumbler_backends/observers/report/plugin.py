"""The report's hooks: `report.html` is written after each stage, at the end, and on demand."""

from pathlib import Path

from tumbler import hookimpl
from tumbler.observers import RunInfo

__all__ = ["tumbler_report", "tumbler_run_finished", "tumbler_stage_finished"]


@hookimpl
def tumbler_stage_finished(run: RunInfo) -> None:
    """Write what is known so far."""
    from tumbler_backends.observers.report.write import write_report

    write_report(run.folder)


@hookimpl
def tumbler_run_finished(run: RunInfo) -> None:
    """Write the whole report."""
    from tumbler_backends.observers.report.write import write_report

    write_report(run.folder)


@hookimpl
def tumbler_report(folder: Path) -> Path:
    """Write the report of a run from its files alone."""
    from tumbler_backends.observers.report.write import write_report

    return write_report(folder)
