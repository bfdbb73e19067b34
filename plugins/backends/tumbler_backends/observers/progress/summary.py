"""What a finished run came to, in a few lines that fit a terminal and a log."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tumbler.contracts.values import JSONObject
from tumbler_backends.observers.evaluation import (
    Evaluation,
    by_environment,
    evaluations,
    outcome_sentence,
    percent_interval,
)
from tumbler_backends.observers.progress.figures import clock_time
from tumbler_backends.observers.reading import integer, number, objects

__all__ = ["print_summary"]

_WIDE = 76
"""Columns from which on the table has all its figures."""


def print_summary(console: Console, name: str, folder: Path, results: JSONObject) -> None:
    """Print the summary of the run `name` whose `results.json` is given."""
    found = evaluations(objects(results.get("stages")))
    seconds = clock_time(number(results.get("seconds")))
    first = Text.assemble(("✓ ", "green"), (name, "bold"), f" finished in {seconds}")
    first.append(f", {integer(results.get('optimizer_steps'))} optimizer steps", style="dim")
    console.print(first)
    if found:
        console.print(Text(outcome_sentence(found), "bold"), "", _table(found, wide=console.width >= _WIDE), sep="\n")
    console.print()
    for label, file in (("report", "report.html"), ("results", "results.json")):
        if (folder / file).is_file():
            # Soft-wrapped, so that a long path can still be copied in one piece.
            console.print(Text.assemble((f"{label:<8}", "dim"), str(folder / file)), soft_wrap=True)


def _table(found: Sequence[Evaluation], *, wide: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("env", overflow="fold")
    table.add_column("weights", overflow="fold")
    table.add_column("success [95 %]", justify="right", no_wrap=True)
    for title in ("solved", "turns", "infra failed") if wide else ():
        table.add_column(title, justify="right", no_wrap=True)
    for each in (row for rows in by_environment(found).values() for row in rows):
        weights = f"after {each.after}" if each.after else "at the start"
        turns = "" if each.mean_turns is None else f"{each.mean_turns:.1f}"
        more = (f"{each.successes}/{each.episodes}", turns, str(each.infra_failed)) if wide else ()
        table.add_row(*(Text(cell) for cell in (each.env, weights, percent_interval(each), *more)))
    return table
