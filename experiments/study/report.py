"""Writes a study's page: its text from the study's `page.md`, its tables where the text has marks for them."""

from collections.abc import Mapping
from pathlib import Path

__all__ = ["write_page"]


def write_page(name: str, results: Path, tables: Mapping[str, str]) -> Path:
    """Write the page of the study `name` into the folder of results and return its path.

    Each table takes the place of its mark, `<!-- TABLE -->`. Raise `ValueError` if a table has no mark in the
    text, or a mark no table.
    """
    source = Path(__file__).parent.parent / name / "page.md"
    text = source.read_text(encoding="utf-8")
    for table, rows in tables.items():
        mark = f"<!-- {table} -->"
        if text.count(mark) != 1:
            raise ValueError(f"{source} has {text.count(mark)} places for the table {table!r}; expected one {mark}")
        text = text.replace(mark, rows)
    if "<!--" in text:
        raise ValueError(f"{source} has a mark without a table: {text[text.index('<!--') :].splitlines()[0]}")
    page = results / f"{name}.md"
    page.write_text(text, encoding="utf-8")
    return page
