"""The tools `write`, `edit` and `multi_edit`: they change only what the policy has read in its present state."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from tumbler_agents.tools.checked import Arguments, CheckedTool, Refusal, Words
from tumbler_agents.tools.replacing import Replacement, replaced
from tumbler_agents.tools.tool import ToolOutput
from tumbler_agents.tools.workplace import Workplace

__all__ = [
    "Edit",
    "EditArguments",
    "MultiEditArguments",
    "WriteArguments",
    "edit_tool",
    "multi_edit_tool",
    "write_tool",
]


class WriteArguments(Arguments):
    """Write a whole file, folders made. A file that is there must have been read before."""

    path: Words = Field(min_length=1)
    """The file, relative to the working folder."""

    content: str
    """All that the file shall hold."""


class EditArguments(Arguments):
    """Replace a piece of a file that was read before. The old text must be exactly as it stands in the file, without
    line numbers, and stand there once.
    """

    path: Words = Field(min_length=1)
    """The file, relative to the working folder."""

    old: str
    """The text to replace."""

    new: str
    """What shall stand in its place."""

    replace_all: bool = False
    """Whether every occurrence is replaced."""


class Edit(BaseModel):
    """One replacement of several."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    old: str
    """The text to replace, as it stands after the edits before this one."""

    new: str
    """What shall stand in its place."""

    replace_all: bool = False
    """Whether every occurrence is replaced."""


class MultiEditArguments(Arguments):
    """Make several replacements in one file that was read before, one after the other: all of them, or none."""

    path: Words = Field(min_length=1)
    """The file, relative to the working folder."""

    edits: list[Edit] = Field(min_length=1)
    """The replacements, in order."""


def write_tool(place: Workplace) -> CheckedTool[WriteArguments]:
    """Return the tool `write`."""

    async def carry_out(given: WriteArguments) -> ToolOutput:
        content = given.content.encode()
        async with place.changing:
            state = await place.look(given.path)
            if state.content is not None:
                await place.require_known(given.path, state.content)
            await place.change(given.path, state, content)
        done = "Created" if state.content is None else "Overwrote"
        return ToolOutput(text=f"{done} {await _shown(place, given.path)} ({len(content)} bytes).")

    return CheckedTool("write", WriteArguments, carry_out)


def edit_tool(place: Workplace) -> CheckedTool[EditArguments]:
    """Return the tool `edit`."""

    async def carry_out(given: EditArguments) -> ToolOutput:
        wanted = Replacement(old=given.old, new=given.new, everywhere=given.replace_all)
        return await _edited(place, given.path, [wanted])

    return CheckedTool("edit", EditArguments, carry_out)


def multi_edit_tool(place: Workplace) -> CheckedTool[MultiEditArguments]:
    """Return the tool `multi_edit`."""

    async def carry_out(given: MultiEditArguments) -> ToolOutput:
        wanted = [Replacement(old=each.old, new=each.new, everywhere=each.replace_all) for each in given.edits]
        return await _edited(place, given.path, wanted)

    return CheckedTool("multi_edit", MultiEditArguments, carry_out)


async def _edited(place: Workplace, path: str, wanted: Sequence[Replacement]) -> ToolOutput:
    async with place.changing:
        state = await place.look(path)
        if state.content is None:
            raise Refusal(f"there is no file {await _shown(place, path)}; use write to create it")
        await place.require_known(path, state.content)
        # Bytes that are no UTF-8 come out as they went in.
        text = state.content.decode("utf-8", "surrogateescape")
        done: list[str] = []
        for number, each in enumerate(wanted, 1):
            try:
                text, lines = replaced(text, each)
            except Refusal as refusal:
                raise Refusal(_where(number, wanted, str(refusal))) from None
            done.append(f"{len(lines)} at line {lines[0]}" if len(lines) == 1 else f"{len(lines)} from line {lines[0]}")
        await place.change(path, state, text.encode("utf-8", "surrogateescape"))
    return ToolOutput(text=f"Replaced {'; '.join(done)} in {await _shown(place, path)}.")


def _where(number: int, wanted: Sequence[Replacement], reason: str) -> str:
    return f"edit {number} of {len(wanted)}: {reason} No edit was made." if len(wanted) > 1 else reason


async def _shown(place: Workplace, path: str) -> str:
    return await place.shown(await place.absolute(path))
