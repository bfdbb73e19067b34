"""The context strategy `notes`: the policy writes facts down, and is told of its notes when they are out of sight."""

from collections.abc import Mapping, Sequence
from random import Random
from re import fullmatch
from typing import Final, Self

from pydantic import PositiveInt, model_validator

from tumbler.config import Settings
from tumbler.contracts.context import (
    Budget,
    EpisodeFiles,
    Plan,
    State,
    StrategyAnswer,
    StrategyCaps,
    Trigger,
    View,
)
from tumbler.contracts.environment import Task
from tumbler.contracts.values import ToolCall, ToolSpec
from tumbler_agents.context.calling import (
    MalformedCall,
    ToolName,
    optional_text,
    refused,
    required_text,
    text_parameters,
)
from tumbler_agents.context.clipping import clip
from tumbler_agents.context.measuring import counter
from tumbler_agents.context.reciting import is_shown, recite

__all__ = ["Notes", "NotesSettings"]

_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}"
_LINE: Final = 24
"""Tokens of a note's first line in the list."""
_WRITE = """\
Writes a note, in place of one of the same name. Notes stay when older messages are gone: write down what you found and
cannot easily find again, with exact names, numbers and paths. Begin with a line that says what the note is about."""
_READ = "Reads a note back; without a name, lists all notes with their first lines."


class NotesSettings(Settings):
    """How much may be noted."""

    max_notes: PositiveInt = 32
    """Notes of one episode; another one is refused until a name is used again."""

    max_tokens: PositiveInt = 2048
    """Tokens of one note, at most; a longer one is refused."""

    write_tool: ToolName = "note_write"
    """The name of the tool that writes."""

    read_tool: ToolName = "note_read"
    """The name of the tool that reads."""

    @model_validator(mode="after")
    def _two_names(self) -> Self:
        if self.write_tool == self.read_tool:
            raise ValueError(f"both tools are called {self.read_tool!r}; give them different names")
        return self


class Notes:
    """Keeps notes in the episode's files. When a compaction has taken a note's mention, all notes are listed again.

    Put it after the strategies that compact.
    """

    def __init__(self, settings: NotesSettings) -> None:
        """Keep the settings."""
        self._settings = settings

    @property
    def caps(self) -> StrategyCaps:
        """Promise to keep what was shown."""
        return StrategyCaps()

    def start(self, task: Task, rng: Random) -> State:
        """Begin without notes."""
        return {"notes": {}}

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        """List the notes when one of them is no longer in view."""
        lines = _lines(state)
        if all(is_shown(view, line) for line in lines):
            return Plan()
        return Plan(edits=recite(view, budget, self._listing(lines)))

    def tools(self) -> Sequence[ToolSpec]:
        """Return the tools that write and read."""
        name, text = "Letters, digits, '.', '_' and '-'.", "The whole note."
        return [
            ToolSpec(
                name=self._settings.write_tool,
                description=_WRITE,
                parameters=text_parameters(("name", "text"), name=name, text=text),
            ),
            ToolSpec(name=self._settings.read_tool, description=_READ, parameters=text_parameters((), name=name)),
        ]

    async def call(self, call: ToolCall, view: View, state: State) -> StrategyAnswer:
        """Write or read a note."""
        if view.io is None:
            return refused("notes cannot be kept here")
        try:
            if call.name == self._settings.write_tool:
                return await self._write(call, view, view.io.files, state)
            return await self._read(call, view.io.files, state)
        except MalformedCall as error:
            return refused(error)

    async def _write(self, call: ToolCall, view: View, files: EpisodeFiles, state: State) -> StrategyAnswer:
        name, text = required_text(call, "name"), required_text(call, "text")
        notes, count = _notes(state), counter(view)
        if not fullmatch(_NAME, name):
            raise MalformedCall(f"a note's name has letters, digits, '.', '_' and '-', at most 80; not {name[:80]!r}")
        if name not in notes and len(notes) >= self._settings.max_notes:
            raise MalformedCall(f"there are {len(notes)} notes, as many as may be; write over one: {', '.join(notes)}")
        if count(text) > self._settings.max_tokens:
            raise MalformedCall(
                f"the note has {count(text)} tokens and may have {self._settings.max_tokens}; shorten it"
            )
        path = await files.write(_file(name), text)
        first = clip(text.splitlines()[0].strip(), _LINE, count) or "(long first line)"
        # Read again after the wait: calls of one reply may run side by side.
        state["notes"] = {**_notes(state), name: first}
        where = f" It lies in {path}." if files.folder is not None else ""
        return StrategyAnswer(text=f"Noted.{where}\n{_line(name, first)}")

    async def _read(self, call: ToolCall, files: EpisodeFiles, state: State) -> StrategyAnswer:
        name, notes = optional_text(call, "name"), _notes(state)
        if not name:
            return StrategyAnswer(text=self._listing(_lines(state)) if notes else "There are no notes yet.")
        if name not in notes:
            raise MalformedCall(f"there is no note {name[:80]!r}; there are: {', '.join(notes) or 'none'}")
        text = await files.read(_file(name))
        return refused(f"the file of the note {name!r} is gone") if text is None else StrategyAnswer(text=text)

    def _listing(self, lines: Sequence[str]) -> str:
        return "\n".join([f"Your notes; {self._settings.read_tool} shows one in full:", *lines])


def _notes(state: State) -> Mapping[str, str]:
    notes = state["notes"]
    return {name: str(first) for name, first in notes.items()} if isinstance(notes, Mapping) else {}


def _lines(state: State) -> list[str]:
    return [_line(name, first) for name, first in _notes(state).items()]


def _line(name: str, first: str) -> str:
    return f"- {name}: {first}"


def _file(name: str) -> str:
    return f"note-{name}"
