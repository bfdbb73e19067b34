"""The tool `search`: lines that match a regular expression, found by whichever program the sandbox has."""

import posixpath
from collections.abc import Sequence
from typing import Final, Literal

from pydantic import Field

from tumbler_agents.tools.bounds import bounded, cut_line, decoded
from tumbler_agents.tools.checked import Arguments, CheckedTool, Refusal, Words
from tumbler_agents.tools.grep import Hit, Query, found_lines
from tumbler_agents.tools.patterns import compiled
from tumbler_agents.tools.tool import ToolOutput
from tumbler_agents.tools.walking import walk
from tumbler_agents.tools.workplace import Workplace

__all__ = ["SearchArguments", "search_tool"]

_LINE_CHARS: Final = 300
_FOLDER: Final = 10
_FILE: Final = 11
_KIND: Final = f'[ -d "$1" ] && exit {_FOLDER}; [ -f "$1" ] && exit {_FILE}; exit 1'


class SearchArguments(Arguments):
    """Search the contents of files for a regular expression and show the lines that match as path:line:text.

    Binary files are left out.
    """

    pattern: Words = Field(min_length=1)
    """The regular expression, such as def \\w+_test, matched within one line."""

    path: Words = Field(default=".", min_length=1)
    """The folder or file to search."""

    include: Words | None = Field(default=None, min_length=1)
    """Only files whose name or path matches this pattern, such as *.{js,ts} or src/**/*.py."""

    literal: bool = False
    """Whether the pattern is plain text."""

    ignore_case: bool = False
    """Whether upper and lower case are the same."""

    context: int = Field(default=0, ge=0, le=20)
    """How many lines to show before and after each that matches, as path-line-text."""

    show: Literal["lines", "files"] = "lines"
    """Whether to show the lines or only the names of the files."""

    limit: int | None = Field(default=None, ge=1)
    """How many lines or names to show."""


def search_tool(place: Workplace) -> CheckedTool[SearchArguments]:
    """Return the tool `search`."""

    async def carry_out(given: SearchArguments) -> ToolOutput:
        root, files, complete = await _files(place, given)
        most = given.limit or place.settings.results
        query = Query(
            pattern=given.pattern,
            literal=given.literal,
            ignore_case=given.ignore_case,
            context=given.context,
            most=most + 1,  # one more than is shown tells that there are more
        )
        hits, whole = await found_lines(place, root, files, query) if files else ([], True)
        lines = await _lines(place, root, hits, given)
        if not lines:
            among = f" in {len(files)} files" if len(files) != 1 else ""
            return ToolOutput(text=f"No line matches{among}.")
        shown = lines[:most]
        if len(lines) > most or not whole:
            shown.append(f"[... the first {len(shown)} are shown, there are more; narrow the search]")
        if not complete:
            shown.append("[... there are too many files; not all were searched]")
        return ToolOutput(text=bounded("\n".join(shown), place.settings.output_chars))

    return CheckedTool("search", SearchArguments, carry_out, reads_only=True)


async def _files(place: Workplace, given: SearchArguments) -> tuple[str, Sequence[str], bool]:
    """Return a folder, the files below it that are to be searched, sorted, and whether these are all."""
    path = await place.absolute(given.path)
    kind = (await place.run(["sh", "-c", _KIND, "sh", path])).exit_code
    if kind == _FILE:
        return posixpath.dirname(path), [posixpath.basename(path)], True
    if kind != _FOLDER:
        raise Refusal(f"there is neither a regular file nor a folder {await place.shown(path)}")
    found = await walk(place, path)
    include = given.include
    expression = None if include is None else compiled(include if "/" in include else f"**/{include}")
    files = [
        entry.path
        for entry in found.entries
        if entry.kind == "file" and (expression is None or expression.fullmatch(entry.path))
    ]
    return path, files, found.complete


async def _lines(place: Workplace, root: str, hits: Sequence[Hit], given: SearchArguments) -> list[str]:
    if given.show == "files":
        paths = dict.fromkeys(hit.path for hit in hits)
        return [await place.shown(posixpath.join(root, path)) for path in paths]
    lines: list[str] = []
    for hit in hits:
        path = await place.shown(posixpath.join(root, hit.path))
        mark = ":" if hit.matches else "-"
        text = cut_line(hit.text.removesuffix("\r"), _LINE_CHARS).encode("utf-8", "surrogateescape")
        lines.append(f"{path}{mark}{hit.number}{mark}{decoded(text)}")
    return lines
