"""What a conversation is taken up again from, as JSON: its log, strategies' states, todo, known files, sub-agents."""

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from tumbler.config import Settings
from tumbler.contracts.chat import ChatMessage, Dialect
from tumbler.contracts.context import ContextPipeline, LogEntry
from tumbler.contracts.pipelines import RestorablePipeline
from tumbler.contracts.values import Message, Role
from tumbler.errors import ContextPlanError, RegistryError
from tumbler_agents.iflow.definitions import SubAgent
from tumbler_agents.iflow.thread import INTERRUPTED
from tumbler_agents.iflow.todo import TodoItem
from tumbler_agents.tools.ledger import FileLedger

__all__ = ["Saved", "SavedEntry", "load", "put_back", "save"]


class SavedEntry(Settings):
    """One entry of the log."""

    id: int
    role: Role
    content: str
    tokens: int = 0
    pinned: bool = False
    sampled: bool = False
    exchange: int | None = None
    calls: tuple[str, ...] = ()
    answers: str | None = None
    tool: str = ""
    shown: bool = False
    summary: bool = False
    original: str = ""

    @classmethod
    def of(cls, entry: LogEntry) -> "SavedEntry":
        """Return an entry as it is saved."""
        return cls(
            id=entry.id,
            role=entry.message.role,
            content=entry.message.content,
            tokens=entry.tokens,
            pinned=entry.pinned,
            sampled=entry.sampled,
            exchange=entry.exchange,
            calls=entry.calls,
            answers=entry.answers,
            tool=entry.tool,
            shown=entry.shown,
            summary=entry.summary,
            original=entry.original,
        )

    def entry(self) -> LogEntry:
        """Return the entry as it was."""
        return LogEntry(
            id=self.id,
            message=Message(role=self.role, content=self.content),
            tokens=self.tokens,
            pinned=self.pinned,
            sampled=self.sampled,
            exchange=self.exchange,
            calls=self.calls,
            answers=self.answers,
            tool=self.tool,
            shown=self.shown,
            summary=self.summary,
            original=self.original,
        )


class Saved(Settings):
    """A saved conversation."""

    format: Literal[1] = 1
    entries: tuple[SavedEntry, ...] = ()
    states: dict[str, Any] = Field(default_factory=dict)
    """The strategies' states."""

    tools: tuple[str, ...] = ()
    """The tools on offer, in order."""

    turn: int = 0
    todo: tuple[TodoItem, ...] = ()
    turns_since_todo: int = 0
    """Model calls since the todo list was written."""

    planning: bool = False
    plan: str = ""
    """The plan that was approved."""

    facts: tuple[str, ...] = ()
    """What was saved to memory files in this conversation."""

    memory: str = ""
    """What the agent was told of the project at the start."""

    shown_memory: tuple[str, ...] = ()
    """The memory files that are in view."""

    ledger: dict[str, Any] = Field(default_factory=lambda: {"files": []})
    """Which files are known, and in what state."""

    told_of: tuple[str, ...] = ()
    """The files of which it was told that something else has changed them."""

    pending: tuple[str, ...] = ()
    """What the agent is reminded of with the person's next message."""

    agents: tuple[SubAgent, ...] = ()
    started: dict[str, int] = Field(default_factory=dict)
    """How many sub-agents each agent has started."""

    template: str | None = None
    """The template that the sandbox's files were copied into; start a sandbox from it to have them back."""

    @field_validator("ledger")
    @classmethod
    def _is_ledger(cls, value: dict[str, Any]) -> dict[str, Any]:
        FileLedger.restored(value)
        return value


def save(saved: Saved, path: Path) -> None:
    """Write a conversation; a crash leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(saved.model_dump_json(indent=1), encoding="utf-8")
    beside.replace(path)


def load(path: Path) -> Saved:
    """Return a saved conversation; raises `RegistryError` where the file holds none."""
    try:
        return Saved.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise RegistryError(f"{path} holds no conversation that can be taken up: {error}") from error


def put_back(saved: Saved, context: ContextPipeline, dialect: Dialect) -> None:
    """Fill an empty log with a saved one; calls that were unanswered are answered, so that the log is legal.

    A pipeline that cannot be put back as it was starts its strategies anew over the entries as they were shown. Raises
    `RegistryError` where the log or the strategies' states cannot be taken up.
    """
    if isinstance(context, RestorablePipeline):
        try:
            context.restore([each.entry() for each in saved.entries], saved.states)
        except ContextPlanError as error:
            raise RegistryError(f"the saved conversation cannot be taken up: {error}") from error
    else:
        for each in saved.entries:
            message = Message(role=each.role, content=each.content)
            calls = each.calls if each.sampled else None
            context.append(
                message, pinned=each.pinned, sampled=each.sampled, calls=calls, answers=each.answers, tool=each.tool
            )
    answered = {each.answers for each in saved.entries}
    for call in (call for each in saved.entries for call in each.calls if call not in answered):
        message = dialect.write(ChatMessage(role="tool", content=INTERRUPTED, call_id=call))
        context.append(message, answers=call)
