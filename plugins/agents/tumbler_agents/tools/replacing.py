"""Exact replacement in a text, with messages that help to find the right place; knows no file and no tool."""

import difflib
from dataclasses import dataclass
from typing import Final

from tumbler_agents.tools.bounds import cut_line
from tumbler_agents.tools.checked import Refusal

__all__ = ["Replacement", "replaced"]

_COMPARED_LINES: Final = 5000
_COMPARED_CHARS: Final = 200
_NAMED_LINES: Final = 10


@dataclass(frozen=True, kw_only=True)
class Replacement:
    """What shall stand in place of what."""

    old: str
    new: str
    everywhere: bool = False


def replaced(text: str, wanted: Replacement) -> tuple[str, list[int]]:
    """Return the text after the replacement, and the lines (from 1) where the old one stood.

    The text's line ends are kept: where it has CRLF, so does what is put in. Raises `Refusal` where the old text is
    not there, or stands in several places and not all are meant.
    """
    if not wanted.old:
        raise Refusal("the old text is empty; give the text to replace, or use write for a whole file")
    if wanted.old == wanted.new:
        raise Refusal("the old and the new text are equal; nothing would change")
    old, new = _with_line_ends_of(text, wanted)
    places = _places(text, old)
    if not places:
        raise Refusal(f"the old text is not in the file.{_nearest(text, wanted.old)}")
    lines = _line_numbers(text, places)
    if len(places) > 1 and not wanted.everywhere:
        named = ", ".join(map(str, lines[:_NAMED_LINES])) + (", …" if len(lines) > _NAMED_LINES else "")
        raise Refusal(
            f"the old text stands {len(places)} times in the file, at lines {named}; "
            "add lines around it until it is unique, or replace all of them"
        )
    return text.replace(old, new), lines


def _with_line_ends_of(text: str, wanted: Replacement) -> tuple[str, str]:
    """Return old and new with the line ends that the text uses where the old one stands."""
    pairs = [(_unix(wanted.old), _unix(wanted.new)), (_windows(wanted.old), _windows(wanted.new))]
    windows = text.count("\r\n")
    if windows * 2 > text.count("\n"):
        pairs.reverse()
    exact = (wanted.old, wanted.new)
    if not windows:
        pairs = [exact, pairs[0]]
    return next((pair for pair in pairs if pair[0] in text), exact)


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n")


def _windows(text: str) -> str:
    return _unix(text).replace("\n", "\r\n")


def _places(text: str, old: str) -> list[int]:
    places: list[int] = []
    at = text.find(old)
    while at >= 0:
        places.append(at)
        at = text.find(old, at + len(old))
    return places


def _line_numbers(text: str, places: list[int]) -> list[int]:
    numbers: list[int] = []
    line = last = 0
    for place in places:
        line += text.count("\n", last, place)
        last = place
        numbers.append(line + 1)
    return numbers


def _nearest(text: str, old: str) -> str:
    """Return a sentence on the line that is most like the first line of the old text; nothing where none is."""
    wanted = next((line.strip() for line in old.splitlines() if line.strip()), "")
    lines = [line.strip()[:_COMPARED_CHARS] for line in text.split("\n")[:_COMPARED_LINES]]
    if wanted and wanted in lines:
        hint = "; compare white space and the lines after it"
        number = lines.index(wanted)
    else:
        hint = ""
        close = difflib.get_close_matches(wanted[:_COMPARED_CHARS], filter(None, lines), n=1, cutoff=0.5)
        if not close:
            return " No line is like it: read the file again."
        number = lines.index(close[0])
    original = text.split("\n")[number].removesuffix("\r")
    return f" The nearest line is {number + 1}: {cut_line(original, _COMPARED_CHARS)!r}{hint}."
