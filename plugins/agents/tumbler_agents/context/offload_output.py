"""The context strategy `offload-output`: long outputs go to a file, and a preview with its name is shown."""

import re
from random import Random
from typing import Final, TypeGuard

from pydantic import PositiveInt, model_validator

from tumbler.config import Settings
from tumbler.contracts.context import (
    Budget,
    Plan,
    Replace,
    State,
    StrategyAnswer,
    StrategyCaps,
    StrategyIO,
    Trigger,
    View,
)
from tumbler.contracts.environment import Task
from tumbler.contracts.values import JSON, JSONObject, ToolCall, ToolSpec
from tumbler_agents.context.excerpt import Count, excerpt, head_of, split_frame
from tumbler_agents.context.observations import arrivals

__all__ = ["OffloadOutput", "OffloadOutputSettings", "output_name"]

_NAME: Final = re.compile(r"output-\d+\.txt")
_TOOL: Final = "read_output"
_HEAD_SHARE: Final = 0.5
_PIECE: Final = 4000
"""Characters that `read_output` returns where the policy names no limit."""
_SPARE: Final = 0.9
"""An answer of `read_output` takes at most this part of `max_tokens`: with the tags of a dialect around it, it must not
be put into a file again."""


class OffloadOutputSettings(Settings):
    """Which outputs go to files, and how much of them is shown."""

    max_tokens: PositiveInt = 2000
    """An output of more tokens goes to a file."""

    preview_tokens: PositiveInt = 400
    """Tokens that are shown of it, the line that names the file included."""

    @model_validator(mode="after")
    def _require_shorter_preview(self) -> "OffloadOutputSettings":
        if self.preview_tokens > self.max_tokens:
            raise ValueError(
                f"preview_tokens = {self.preview_tokens} is more than max_tokens = {self.max_tokens}; "
                "a preview must be shorter than what it stands for"
            )
        return self


def output_name(entry: int) -> str:
    """Return the name of the file that holds the output of an entry."""
    return f"output-{entry}.txt"


class OffloadOutput:
    """Writes outputs to files when they arrive: nothing is lost, and the token prefix is kept.

    The agent reads a file with its own tools where it has a sandbox, and with `read_output` everywhere.
    """

    def __init__(self, settings: OffloadOutputSettings) -> None:
        """Keep the settings."""
        self._settings = settings

    @property
    def caps(self) -> StrategyCaps:
        """Promise to keep every token prefix."""
        return StrategyCaps()

    def start(self, task: Task, rng: Random) -> State:
        """Return an empty state."""
        return {}

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        """Put what has just arrived and is too long into a file."""
        if view.io is None:
            return Plan()
        edits: list[Replace] = []
        for entry in arrivals(view):
            text = entry.message.content
            if entry.tokens <= self._settings.max_tokens or view.io.count(text) <= self._settings.max_tokens:
                continue
            preview = await self._offload(view.io, output_name(entry.id), text)
            if preview is not None:
                edits.append(Replace(id=entry.id, content=preview, reason="long output kept in a file"))
        return Plan(edits=edits)

    async def _offload(self, io: StrategyIO, name: str, text: str) -> str | None:
        path = await io.files.write(name, split_frame(text)[1])
        where = path if io.files.folder is not None else f"{name}, read it with {_TOOL}"
        return excerpt(
            text,
            self._settings.preview_tokens,
            head_share=_HEAD_SHARE,
            count=io.count,
            hint=f"the whole output is in {where}",
        )

    def tools(self) -> list[ToolSpec]:
        """Return `read_output`."""
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
        return [ToolSpec(name=_TOOL, description="Reads a part of a long output.", parameters=parameters)]

    async def call(self, call: ToolCall, view: View, state: State) -> StrategyAnswer:
        """Answer with a part of a file, as long as fits below `max_tokens`."""
        name = str(call.arguments.get("name", "")).rpartition("/")[2]
        text = await view.io.files.read(name) if view.io is not None and _NAME.fullmatch(name) else None
        if view.io is None or text is None:
            return _refuse(f"there is no output {name!r}; take the name from the line that says what is left out")
        offset, limit = call.arguments.get("offset", 0), call.arguments.get("limit", _PIECE)
        if not _is_count(offset) or not _is_count(limit) or limit == 0:
            return _refuse("offset must be a number of characters from 0 on, and limit one from 1 on")
        if offset >= len(text):
            return _refuse(f"{name} has {len(text)} characters; offset must be below that")
        room = int(self._settings.max_tokens * _SPARE)
        return StrategyAnswer(text=_piece(text, offset, limit, room, view.io.count))


def _is_count(value: JSON) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _refuse(reason: str) -> StrategyAnswer:
    return StrategyAnswer(text=f"error: {reason}", errored=True)


def _piece(text: str, offset: int, limit: int, room: int, count: Count) -> str:
    """Return what is asked for, as much of it as there is room for, and how to go on."""
    footer = f"\n[characters {len(text)} to {len(text)} of {len(text)}; go on with offset={len(text)}]"
    asked = text[offset : offset + limit]
    # One character is always returned, so that reading goes on even where not even the footer has room.
    piece = head_of(asked, room - count(footer), count) or asked[:1]
    end = offset + len(piece)
    more = f"; go on with offset={end}" if end < len(text) else ""
    return f"{piece}\n[characters {offset} to {end} of {len(text)}{more}]"
