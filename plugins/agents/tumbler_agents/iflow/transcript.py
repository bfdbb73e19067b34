"""A conversation log that shows all it holds: where no context strategy is wanted."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tumbler.contracts.context import LogEntry, Trigger
from tumbler.contracts.values import JSON, Message

__all__ = ["Transcript"]

_CHARACTERS_PER_TOKEN = 4


class Transcript:
    """The `ContextPipeline` without strategies. Token counts are estimates: no tokenizer is at hand."""

    def __init__(self) -> None:
        """Start empty."""
        self._entries: list[LogEntry] = []
        self._exchanges = 0
        self._implicit: int | None = None

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
        """Add a message and return its id."""
        entry = LogEntry(
            id=len(self._entries),
            message=message,
            tokens=len(message.content) // _CHARACTERS_PER_TOKEN + 1,
            pinned=pinned,
            sampled=sampled,
            exchange=self._exchange(message, sampled=sampled, calls=calls, answers=answers),
            calls=tuple(calls or ()),
            answers=answers,
            tool=tool,
        )
        self._entries.append(entry)
        return entry.id

    async def messages(self) -> Sequence[Message]:
        """Return all messages."""
        self._entries = [entry if entry.shown else replace(entry, shown=True) for entry in self._entries]
        return [entry.message for entry in self._entries]

    def request(self, why: Trigger) -> None:
        """Do nothing: no strategy could plan."""

    @property
    def entries(self) -> Sequence[LogEntry]:
        """Return the log."""
        return tuple(self._entries)

    def snapshot(self) -> Mapping[str, JSON]:
        """Return no states."""
        return {}

    def _exchange(
        self, message: Message, *, sampled: bool, calls: Sequence[str] | None, answers: str | None
    ) -> int | None:
        implicit, self._implicit = self._implicit, None
        if sampled:
            self._exchanges += 1
            self._implicit = self._exchanges if calls is None else None
            return self._exchanges
        if answers is not None:
            made = (entry.exchange for entry in reversed(self._entries) if answers in entry.calls)
            return next(made, None)
        return implicit if message.role in ("user", "tool") else None
