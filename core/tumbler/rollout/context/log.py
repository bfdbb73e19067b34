"""The log of an episode as it is shown: entries are added, edits change what stands for them; knows no strategy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from tumbler.contracts.context import Append, Drop, Edit, LogEntry, Pin, Replace, Reset, Summarise
from tumbler.contracts.values import Message

__all__ = ["Log", "LogMarks"]


@dataclass(frozen=True, kw_only=True)
class LogMarks:
    """How far a log has counted."""

    next_id: int = 0
    exchanges: int = 0
    answering: int | None = None
    """The exchange that the next message answers, where the scaffold does not tell."""


class Log:
    """The entries in view. A copy can be edited and thrown away."""

    def __init__(self, count: Callable[[Message], int]) -> None:
        """Start empty; `count` says how many tokens a message takes."""
        self._count = count
        self._next = 0
        self._exchanges = 0
        self._volatile: set[int] = set()
        self._implicit: int | None = None
        """The exchange that the next message answers, where the scaffold does not tell."""
        self.entries: tuple[LogEntry, ...] = ()

    @property
    def marks(self) -> LogMarks:
        """Return what the entries in view do not tell of the log."""
        return LogMarks(next_id=self._next, exchanges=self._exchanges, answering=self._implicit)

    def restore(self, entries: Sequence[LogEntry], marks: LogMarks) -> None:
        """Take up the entries and marks of another log."""
        self._next, self._exchanges, self._implicit = marks.next_id, marks.exchanges, marks.answering
        self.entries = tuple(replace(entry, tokens=self._count(entry.message)) for entry in entries)

    def copy(self) -> "Log":
        """Return a log of the same entries."""
        log = Log(self._count)
        log._next, log._exchanges, log._implicit = self._next, self._exchanges, self._implicit
        log._volatile, log.entries = set(self._volatile), self.entries
        return log

    @property
    def tokens(self) -> int:
        """Return the tokens of all entries in view."""
        return sum(entry.tokens for entry in self.entries)

    def append(
        self,
        message: Message,
        *,
        pinned: bool = False,
        sampled: bool = False,
        calls: Sequence[str] | None = None,
        answers: str | None = None,
        tool: str = "",
    ) -> int:
        """Add an entry at the end."""
        self._add(
            message,
            pinned=pinned,
            sampled=sampled,
            exchange=self._exchange(message, sampled=sampled, calls=calls, answers=answers),
            calls=tuple(calls or ()),
            answers=answers,
            tool=tool,
        )
        return self._next - 1

    def note_shown(self) -> None:
        """Record that a prompt holds all entries in view, and let go of the volatile ones."""
        self.entries = tuple(
            entry if entry.shown else replace(entry, shown=True)
            for entry in self.entries
            if entry.id not in self._volatile
        )
        self._volatile.clear()

    def apply(self, edit: Edit) -> None:
        """Carry out an edit whose entries are in view."""
        match edit:
            case Drop(ids=ids):
                gone = frozenset(ids)
                self._keep(lambda entry: entry.id not in gone)
            case Replace():
                self.entries = tuple(self._replaced(entry, edit) for entry in self.entries)
            case Summarise():
                self._summarise(edit)
            case Append():
                self._add(edit.message)
                if edit.volatile:
                    self._volatile.add(self._next - 1)
            case Reset(keep=ids):
                kept = frozenset(ids)
                self._keep(lambda entry: entry.pinned or entry.id in kept)
            case Pin(ids=ids):
                self.entries = tuple(
                    replace(entry, pinned=True) if entry.id in ids else entry for entry in self.entries
                )
            case _:
                assert_never(edit)

    def _keep(self, wanted: Callable[[LogEntry], bool]) -> None:
        self.entries = tuple(entry for entry in self.entries if wanted(entry))

    def _replaced(self, entry: LogEntry, edit: Replace) -> LogEntry:
        if entry.id != edit.id:
            return entry
        message = Message(role=entry.message.role, content=edit.content)
        original = entry.original or (entry.message.content if edit.readable else "")
        shown = replace(entry, message=message, tokens=self._count(message), sampled=False, shown=False)
        return replace(shown, original=original)

    def _summarise(self, edit: Summarise) -> None:
        message = Message(role="user", content=edit.text)
        gone = frozenset(edit.ids)
        place = next(index for index, entry in enumerate(self.entries) if entry.id in gone)
        entry = LogEntry(id=self._next, message=message, tokens=self._count(message), summary=True)
        self._next += 1
        before = self.entries[:place]
        after = tuple(entry for entry in self.entries[place:] if entry.id not in gone)
        self.entries = (*before, entry, *after)

    def _add(
        self,
        message: Message,
        *,
        pinned: bool = False,
        sampled: bool = False,
        exchange: int | None = None,
        calls: tuple[str, ...] = (),
        answers: str | None = None,
        tool: str = "",
    ) -> None:
        entry = LogEntry(
            id=self._next,
            message=message,
            tokens=self._count(message),
            pinned=pinned,
            sampled=sampled,
            exchange=exchange,
            calls=calls,
            answers=answers,
            tool=tool,
        )
        self._next += 1
        self.entries = (*self.entries, entry)

    def _exchange(
        self, message: Message, *, sampled: bool, calls: Sequence[str] | None, answers: str | None
    ) -> int | None:
        implicit, self._implicit = self._implicit, None
        if sampled:
            self._exchanges += 1
            if calls is None:
                self._implicit = self._exchanges
            return self._exchanges
        if answers is not None:
            made = (entry.exchange for entry in reversed(self.entries) if answers in entry.calls)
            # A reply that did not tell of its calls is answered by what comes next, whatever its id.
            return next(made, implicit)
        return implicit if message.role in ("user", "tool") else None
