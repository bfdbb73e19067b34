"""The tool `read_output`, which reads files that hold long outputs piece by piece; knows no strategy."""

import re
from typing import Final, TypeGuard

from tumbler.contracts.context import StrategyAnswer, StrategyIO
from tumbler.contracts.values import JSON, JSONObject, ToolCall, ToolSpec
from tumbler_agents.context.calling import refused
from tumbler_agents.context.excerpt import Count, head_of

__all__ = ["TOOL", "answer", "output_name", "specified"]

TOOL: Final = "read_output"
_NAME: Final = re.compile(r"output-\d+\.txt")
_PIECE: Final = 4000
"""Characters that are returned where the policy names no limit."""


def output_name(entry: int) -> str:
    """Return the name of the file that holds the output of an entry."""
    return f"output-{entry}.txt"


def specified() -> ToolSpec:
    """Return the tool as it is offered."""
    parameters: JSONObject = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "The file's name, such as output-12.txt."},
            "offset": {"type": "integer", "description": "The first character to read, counted from 0."},
            "limit": {"type": "integer", "description": f"How many characters to read, {_PIECE} by default."},
        },
        "required": ["name"],
        "additionalProperties": False,
    }
    return ToolSpec(name=TOOL, description="Reads a part of a long output.", parameters=parameters)


async def answer(call: ToolCall, io: StrategyIO | None, room: int) -> StrategyAnswer:
    """Answer a call with a part of a file in at most `room` tokens."""
    name = str(call.arguments.get("name", "")).rpartition("/")[2]
    text = await io.files.read(name) if io is not None and _NAME.fullmatch(name) else None
    if io is None or text is None:
        return refused(f"there is no output {name!r}; take the name from the line that says what is left out")
    offset, limit = call.arguments.get("offset", 0), call.arguments.get("limit", _PIECE)
    if not _is_count(offset) or not _is_count(limit) or limit == 0:
        return refused("offset must be a number of characters from 0 on, and limit one from 1 on")
    if offset >= len(text):
        return refused(f"{name} has {len(text)} characters; offset must be below that")
    return StrategyAnswer(text=_piece(text, offset, limit, room, io.count))


def _is_count(value: JSON) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _piece(text: str, offset: int, limit: int, room: int, count: Count) -> str:
    """Return what is asked for, as much of it as there is room for, and how to go on."""
    footer = f"\n[characters {len(text)} to {len(text)} of {len(text)}; go on with offset={len(text)}]"
    asked = text[offset : offset + limit]
    # One character is always returned, so that reading goes on even where not even the footer has room.
    piece = head_of(asked, room - count(footer), count) or asked[:1]
    end = offset + len(piece)
    more = f"; go on with offset={end}" if end < len(text) else ""
    return f"{piece}\n[characters {offset} to {end} of {len(text)}{more}]"
