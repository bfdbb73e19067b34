"""Leaving exchanges out of a view, and what else must go until it fits; knows no strategy's settings.

One short note stands for all that was ever left out by a cut, so that notes never pile up.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from tumbler.contracts.context import Budget, Drop, Edit, Exchange, LogEntry, Replace, StrategyIO, Summarise, View
from tumbler.contracts.values import Message
from tumbler_agents.context.clipping import level
from tumbler_agents.context.excerpt import excerpt
from tumbler_agents.context.observations import is_observation
from tumbler_agents.context.worth import least_freed

__all__ = ["MOST_IN_A_ROW", "Cut", "is_note", "make_room", "may_go"]

MOST_IN_A_ROW: Final = 2
"""Rewrites on consecutive prompts, after which the pipeline refuses another."""

_NOTE: Final = re.compile(r"\[(\d{1,9}) earlier steps? left out\]")
_HEAD_SHARE: Final = 0.5
_ROOMY: Final = 0.9
"""Part of the limit that is left when messages are shortened: at the limit itself the next turn would not fit."""
_SHORTEST: Final = 32
"""Tokens below which a message is not shortened further."""


def is_note(entry: LogEntry) -> bool:
    """Return whether the entry is the note of an earlier cut; no output is, whatever its words are."""
    return entry.summary and _NOTE.fullmatch(entry.message.content) is not None


class Cut:
    """What is to go from a view, and what the next prompt takes without it.

    Pinned entries, and exchanges that hold one or whose calls are not all answered, never go.
    """

    def __init__(self, view: View, io: StrategyIO, used: int, *, arrived: bool = False) -> None:
        """Start with nothing gone; `used` is what the prompt takes now.

        With `arrived`, only what no prompt has held yet goes or is shortened by `squeeze`.
        """
        self._arrived = arrived
        self._entries = view.entries
        self._io = io
        self._used = used
        self._gone: dict[int, LogEntry] = {}
        self._short: dict[int, tuple[str, int]] = {}
        self._heading: tuple[str, int | None] | None = None
        self.exchanges: Sequence[Exchange] = view.exchanges()
        self._frame = _frame(view.entries, io)

    @property
    def left(self) -> int:
        """Return what the prompt would take."""
        gone = sum(entry.tokens for entry in self._gone.values())
        saved = sum(entry.tokens - self._short[entry.id][1] for entry in self._entries if entry.id in self._short)
        return self._used - gone - saved + (self._frame + self._io.count(self._text()) if self._gone else 0)

    @property
    def rewrites(self) -> bool:
        """Return whether anything goes, or is shortened, that a prompt has held."""
        return any(entry.shown and (entry.id in self._gone or entry.id in self._short) for entry in self._entries)

    def say(self, text: str, call: int | None) -> None:
        """Let a text stand for what goes, in place of the note; `call` is the model's whose words it holds."""
        self._heading = text, call

    def drop(self, exchanges: Iterable[Exchange]) -> None:
        """Leave out those of the exchanges that may go, and with them the notes of earlier cuts."""
        for exchange in exchanges:
            if may_go(exchange):
                self.forget(exchange.entries)

    def forget(self, entries: Iterable[LogEntry]) -> None:
        """Leave out entries: whole exchanges, or messages of none."""
        for entry in entries:
            self._short.pop(entry.id, None)
            self._gone[entry.id] = entry
        if self._gone and not self._arrived:
            self._gone.update({entry.id: entry for entry in self._entries if is_note(entry)})

    def shed(self, exchanges: Iterable[Exchange], goal: int) -> None:
        """Leave out one exchange after the other, in the given order, until the prompt takes at most `goal`."""
        for exchange in exchanges:
            if self.left <= goal:
                return
            self.drop([exchange])

    def squeeze(self, goal: int) -> None:
        """Make room at any price: shorten the newest outputs, then messages between; then leave them out."""
        left = [each for each in self.exchanges if may_go(each) and each.entries[0].id not in self._gone]
        newest, between = left[-1:], [entry for entry in self._entries if self._between(entry)]
        self._shorten([e for each in newest for e in each.entries if is_observation(e) and self._may_touch(e)], goal)
        self._shorten(between, goal)
        self.shed([each for each in newest if all(map(self._may_touch, each.entries))], goal)
        for entry in between:
            if self.left > goal:
                self.forget([entry])

    def edits(self, limit: int) -> list[Edit]:
        """Return the edits; the text that stands for what goes is left away only where it alone does not fit."""
        ids = tuple(entry.id for entry in self._entries if entry.id in self._gone)
        edits: list[Edit] = [
            Replace(id=entry_id, content=text, reason="does not fit") for entry_id, (text, _) in self._short.items()
        ]
        if not ids:
            return edits
        text, call = self._text(), self._heading[1] if self._heading else None
        without = self.left - self._frame - self._io.count(text)
        return [*edits, Drop(ids=ids) if without <= limit < self.left else Summarise(ids=ids, text=text, call=call)]

    def messages(self) -> list[Message]:
        """Return the conversation as it would be shown."""
        messages: list[Message] = []
        told = False
        for entry in self._entries:
            if entry.id in self._gone:
                messages += [] if told else [Message(role="user", content=self._text())]
                told = True
            else:
                text = self._short[entry.id][0] if entry.id in self._short else entry.message.content
                messages.append(Message(role=entry.message.role, content=text))
        return messages

    def _text(self) -> str:
        if self._heading is not None:
            return self._heading[0]
        steps = len({entry.exchange for entry in self._gone.values() if entry.exchange is not None})
        for entry in self._gone.values():
            if entry.exchange is None:
                match = _NOTE.fullmatch(entry.message.content) if entry.summary else None
                steps += int(match[1]) if match else 1
        return f"[{steps} earlier step{'s' if steps != 1 else ''} left out]"

    def _may_touch(self, entry: LogEntry) -> bool:
        return not (self._arrived and entry.shown)

    def _between(self, entry: LogEntry) -> bool:
        own = entry.exchange is None and not entry.pinned and entry.message.role == "user"
        return own and entry.id not in self._gone and self._may_touch(entry)

    def _shorten(self, entries: Sequence[LogEntry], goal: int) -> None:
        """Shorten the longest of the entries to one size, as far as is needed."""
        over = self.left - goal
        if over <= 0 or not entries:
            return
        sizes = [self._short[entry.id][1] if entry.id in self._short else entry.tokens for entry in entries]
        most = max(_SHORTEST, level(sizes, sum(sizes) - over))
        for entry, size in zip(entries, sizes, strict=True):
            text = entry.message.content
            frame = entry.tokens - self._io.count(text)
            if size <= most:
                continue
            shown = excerpt(text, most - frame, head_share=_HEAD_SHARE, count=self._io.count)
            if shown is not None:
                self._short[entry.id] = shown, frame + self._io.count(shown)


def make_room(cut: Cut, view: View, budget: Budget, io: StrategyIO, *, tired: bool) -> Cut:
    """Return the cut, squeezed until the prompt fits, or one that touches nothing if it is not worth its cost.

    A prompt that does not fit is mended at its newest part, which no prompt has held yet, where a rewrite would free
    too little or, with `tired`, would be one too many in a row.
    """
    worth, full = budget.used - least_freed(budget), budget.used > budget.limit
    roomy = int(_ROOMY * budget.limit)
    if full and cut.left > budget.limit:
        cut.squeeze(roomy)
    if full and cut.rewrites:
        cut.squeeze(worth)
    if cut.left <= (worth if cut.rewrites else budget.limit) and not (tired and cut.rewrites):
        return cut
    gentle = Cut(view, io, budget.used, arrived=True)
    if full:
        gentle.squeeze(roomy)
    return cut if full and gentle.left > budget.limit else gentle


def may_go(exchange: Exchange) -> bool:
    """Return whether an exchange can be left out."""
    return not exchange.open and not any(entry.pinned for entry in exchange.entries)


def _frame(entries: Sequence[LogEntry], io: StrategyIO) -> int:
    """Return the tokens that the chat template adds to a user's message."""
    users = [entry for entry in entries if entry.message.role == "user"] or entries
    shortest = min(users, key=lambda entry: entry.tokens, default=None)
    return 0 if shortest is None else max(0, shortest.tokens - io.count(shortest.message.content))
