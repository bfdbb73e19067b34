"""Write `report.html` into a run folder, whole or not at all."""

from pathlib import Path

from tumbler_backends.observers.report.page import render_page
from tumbler_backends.observers.report.source import read_run_source

__all__ = ["FILE_NAME", "write_report"]

FILE_NAME = "report.html"


def write_report(folder: Path) -> Path:
    """Write the report of the run in `folder` and return its path; what the folder lacks is left out."""
    page = render_page(read_run_source(folder))
    path = folder / FILE_NAME
    unfinished = path.with_suffix(".html.part")
    unfinished.write_text(page, encoding="utf-8")
    return unfinished.replace(path)
