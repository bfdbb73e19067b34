"""The tools `read` and `read_many`: text files, whole or by lines."""

from collections.abc import Sequence
from typing import Final

from pydantic import Field

from tumbler.errors import SandboxError
from tumbler_agents.tools.bounds import cut_line, decoded
from tumbler_agents.tools.checked import Arguments, CheckedTool, Refusal, Words
from tumbler_agents.tools.patterns import is_pattern
from tumbler_agents.tools.settings import SandboxToolsSettings
from tumbler_agents.tools.tool import ToolOutput
from tumbler_agents.tools.walking import matching
from tumbler_agents.tools.workplace import Workplace

__all__ = ["ReadArguments", "ReadManyArguments", "read_many_tool", "read_tool"]

_SNIFFED_BYTES: Final = 8192
_SHOWN_BYTES: Final = 16
_NUMBER_CHARS: Final = 8


class ReadArguments(Arguments):
    """Read a text file. Paths are relative to the working folder. Lines are numbered; the number and the tab are not
    part of the file.
    """

    path: Words = Field(min_length=1)
    """The file."""

    offset: int = Field(default=1, ge=1)
    """The first line to show."""

    limit: int | None = Field(default=None, ge=1)
    """How many lines to show."""

    numbered: bool = True
    """Whether each line begins with its number and a tab."""


class ReadManyArguments(Arguments):
    """Read several text files at once, by names or by patterns such as src/**/*.py."""

    paths: list[Words] = Field(min_length=1)
    """Files and patterns, relative to the working folder."""


def read_tool(place: Workplace) -> CheckedTool[ReadArguments]:
    """Return the tool `read`."""

    async def carry_out(given: ReadArguments) -> ToolOutput:
        lines = await _lines_of(place, given.path)
        first = given.offset - 1
        if first and first >= len(lines):
            raise Refusal(f"{given.path} has only {len(lines)} lines; the offset {given.offset} is past its end")
        most = given.limit or place.settings.read_lines
        page = _page(lines, first, most, place.settings, place.settings.output_chars, numbered=given.numbered)
        return ToolOutput(text=page)

    return CheckedTool("read", ReadArguments, carry_out, reads_only=True)


def read_many_tool(place: Workplace) -> CheckedTool[ReadManyArguments]:
    """Return the tool `read_many`."""

    async def carry_out(given: ReadManyArguments) -> ToolOutput:
        paths: dict[str, None] = {}
        parts: list[str] = []
        for each in given.paths:
            found = await _named(place, each)
            paths.update(dict.fromkeys(found))
            parts += [] if found else [f"==> {each} <==\nno file matches"]
        room = place.settings.output_chars
        shown = 0
        for number, path in enumerate(paths):
            if room <= 0:
                parts.append(f"[... {len(paths) - number} files more did not fit; read them by name]")
                break
            part, well = await _section(place, path, room)
            parts.append(part)
            room -= len(part)
            shown += well
        return ToolOutput(text="\n\n".join(parts), errored=shown == 0)

    return CheckedTool("read_many", ReadManyArguments, carry_out, reads_only=True)


async def _named(place: Workplace, name: str) -> Sequence[str]:
    """Return the absolute paths that a name or pattern means; a name is taken as it is, a file or not."""
    if not is_pattern(name):
        return [await place.absolute(name)]
    try:
        paths, _complete = await matching(place, name)
    except Refusal:  # the folder is not there: nothing matches
        return []
    return paths


async def _section(place: Workplace, path: str, room: int) -> tuple[str, bool]:
    """Return a file under its name, and whether it could be read."""
    heading = f"==> {await place.shown(path)} <=="
    try:
        lines = await _lines_of(place, path)
    except Refusal as refusal:
        return f"{heading}\nerror: {refusal}", False
    except OSError as error:
        if isinstance(error, SandboxError) and error.infra:
            raise
        return f"{heading}\nerror: {error}", False
    return f"{heading}\n{_page(lines, 0, place.settings.read_lines, place.settings, room, numbered=True)}", True


async def _lines_of(place: Workplace, path: str) -> Sequence[str]:
    """Return a file's lines and note that the policy knows it; raise `Refusal` for what is no text."""
    content = await place.read(path)
    if b"\0" in content[:_SNIFFED_BYTES]:
        begins = content[:_SHOWN_BYTES].hex(" ")
        raise Refusal(
            f"{await place.shown(await place.absolute(path))} is a binary file of {len(content)} bytes that begins "
            f"with {begins}; use the shell on it"
        )
    place.ledger.saw(await place.absolute(path), content)
    lines = decoded(content).split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _page(
    lines: Sequence[str], first: int, most: int, settings: SandboxToolsSettings, room: int, *, numbered: bool
) -> str:
    """Return at most so many lines from `first` on, as far as there is room, and how to go on."""
    if not lines:
        return "(the file is empty)"
    shown: list[str] = []
    for number, line in enumerate(lines[first : first + most], first + 1):
        cut = cut_line(line.removesuffix("\r"), settings.line_chars)
        room -= len(cut) + _NUMBER_CHARS
        if room < 0 and shown:
            break
        shown.append(f"{number:6}\t{cut}" if numbered else cut)
    last = first + len(shown)
    if last < len(lines):
        shown.append(f"[... lines {last + 1} to {len(lines)} follow; go on with offset {last + 1}]")
    return "\n".join(shown)
