"""What a conversation is taken up again from, as JSON: its log, strategies' states, todo, known files, sub-agents."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import Field, ValidationError

from tumbler.config import Settings
from tumbler.contracts.chat import ChatMessage, Dialect
from tumbler.contracts.context import ContextPipeline, LogEntry
from tumbler.contracts.values import JSON, Message, Role
from tumbler.errors import RegistryError
from tumbler_agents.iflow.definitions import SubAgent
from tumbler_agents.iflow.thread import INTERRUPTED
from tumbler_agents.iflow.todo import TodoItem

__all__ = ["RestorablePipeline", "Saved", "SavedEntry", "load", "put_back", "save"]


@runtime_checkable
class RestorablePipeline(Protocol):
    """A pipeline of context strategies that can be put back as it was."""

    def restore(self, entries: Sequence[LogEntry], states: Mapping[str, JSON]) -> None:
        """Take up the log as it was shown, and the strategies' states as `snapshot` gave them."""
        ...


class SavedEntry(Settings):
    """One entry of the log."""

    role: Role
    content: str
    tokens: int = 0
    pinned: bool = False
    sampled: bool = False
    exchange: int | None = None
    calls: tuple[str, ...] = ()
    answers: str | None = None
    summary: bool = False

    @classmethod
    def of(cls, entry: LogEntry) -> "SavedEntry":
        """Return an entry as it is saved."""
        return cls(
            role=entry.message.role,
            content=entry.message.content,
            tokens=entry.tokens,
            pinned=entry.pinned,
            sampled=entry.sampled,
            exchange=entry.exchange,
            calls=entry.calls,
            answers=entry.answers,
            summary=entry.summary,
        )

    def entry(self, identity: int) -> LogEntry:
        """Return the entry under a new id."""
        return LogEntry(
            id=identity,
            message=Message(role=self.role, content=self.content),
            tokens=self.tokens,
            pinned=self.pinned,
            sampled=self.sampled,
            exchange=self.exchange,
            calls=self.calls,
            answers=self.answers,
            summary=self.summary,
        )


class Saved(Settings):
    """A saved conversation."""

    format: Literal[1] = 1
    entries: tuple[SavedEntry, ...] = ()
    states: dict[str, Any] = Field(default_factory=dict)
    """The strategies' states."""

    turn: int = 0
    todo: tuple[TodoItem, ...] = ()
    planning: bool = False
    plan: str = ""
    """The plan that was approved."""

    facts: tuple[str, ...] = ()
    """What was saved to memory files in this conversation."""

    ledger: dict[str, Any] = Field(default_factory=lambda: {"files": []})
    """Which files are known, and in what state."""

    agents: tuple[SubAgent, ...] = ()
    template: str | None = None
    """The template that the sandbox's files were copied into; start a sandbox from it to have them back."""


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

    A pipeline that cannot be put back as it was starts its strategies anew over the entries as they were shown.
    """
    if isinstance(context, RestorablePipeline):
        entries = [each.entry(index) for index, each in enumerate(saved.entries)]
        context.restore(entries, saved.states)
    else:
        for each in saved.entries:
            message = Message(role=each.role, content=each.content)
            calls = each.calls if each.sampled else None
            context.append(message, pinned=each.pinned, sampled=each.sampled, calls=calls, answers=each.answers)
    answered = {each.answers for each in saved.entries}
    for call in (call for each in saved.entries for call in each.calls if call not in answered):
        message = dialect.write(ChatMessage(role="tool", content=INTERRUPTED, call_id=call))
        context.append(message, answers=call)
