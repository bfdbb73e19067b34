"""The tools `list` and `glob`: names of files and folders."""

import posixpath

from pydantic import Field

from tumbler_agents.tools.checked import Arguments, CheckedTool, Words
from tumbler_agents.tools.tool import ToolOutput
from tumbler_agents.tools.walking import matching, walk
from tumbler_agents.tools.workplace import Workplace

__all__ = ["GlobArguments", "ListArguments", "glob_tool", "list_tool"]


class ListArguments(Arguments):
    """List what a folder holds, one name a line. Folders end in a slash, symbolic links in @, pipes and such in =."""

    path: Words = Field(default=".", min_length=1)
    """The folder, relative to the working folder."""

    depth: int = Field(default=1, ge=1)
    """How many levels of folders to show."""


class GlobArguments(Arguments):
    """Find files by name. The pattern may hold *, ?, [abc], {a,b}, and ** for any number of folders; *.py finds only
    those of the folder itself, **/*.py those in all folders below. With a slash at the end, folders are found.
    """

    pattern: Words = Field(min_length=1)
    """The pattern."""

    path: Words = Field(default=".", min_length=1)
    """The folder that the pattern is relative to."""

    limit: int | None = Field(default=None, ge=1)
    """How many names to show."""


def list_tool(place: Workplace) -> CheckedTool[ListArguments]:
    """Return the tool `list`."""

    async def carry_out(given: ListArguments) -> ToolOutput:
        root = await place.absolute(given.path)
        found = await walk(place, root, depth=given.depth)
        marks = {"folder": "/", "link": "@", "file": "", "other": "="}
        names = [place.printable(entry.path) + marks[entry.kind] for entry in found.entries]
        return ToolOutput(text=_lines(names, place.settings.results, found.complete) or "(the folder is empty)")

    return CheckedTool("list", ListArguments, carry_out, reads_only=True)


def glob_tool(place: Workplace) -> CheckedTool[GlobArguments]:
    """Return the tool `glob`."""

    async def carry_out(given: GlobArguments) -> ToolOutput:
        paths, complete = await matching(place, given.pattern, given.path)
        names = [await place.shown(path) for path in paths]
        text = _lines(names, given.limit or place.settings.results, complete)
        return ToolOutput(text=text or f"No name matches.{_hint(given.pattern)}")

    return CheckedTool("glob", GlobArguments, carry_out, reads_only=True)


def _lines(names: list[str], most: int, complete: bool) -> str:
    lines = names[:most]
    if len(names) > most:
        lines.append(f"[... {len(names) - most}{'' if complete else ' or'} more; narrow the search]")
    elif not complete:
        lines.append("[... there are too many to be counted; narrow the search]")
    return "\n".join(lines)


def _hint(pattern: str) -> str:
    if "**" in pattern or pattern.startswith("/"):
        return ""
    return f" {posixpath.join('**', pattern)} looks in all folders."
