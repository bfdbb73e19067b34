"""Puts a study's tables into its page, between the marks that the page has for them."""

from pathlib import Path

__all__ = ["replace_section"]


def replace_section(page: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- NAME -->` and `<!-- end NAME -->`; raise `ValueError` if a mark is missing."""
    opening, closing = f"<!-- {name} -->", f"<!-- end {name} -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(opening)
    _, also_found, after = rest.partition(closing)
    if not found or not also_found:
        raise ValueError(f"{page} has no place for the table {name!r}: expected {opening} and {closing}")
    page.write_text(f"{before}{opening}\n\n{text}\n\n{closing}{after}", encoding="utf-8")
