"""Leaving exchanges out of a view, and what else must go until it fits; knows no strategy's settings.

One short note stands for all that was ever left out by a cut, so that notes never pile up.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from tumbler.contracts.context import Budget, Drop, Edit, Exchange, LogEntry, Plan, Replace, State, Summarise, View
from tumbler.contracts.values import Message
from tumbler_agents.context.clipping import shorten
from tumbler_agents.context.measuring import counter, frame_tokens
from tumbler_agents.context.observations import has_unseen, is_observation
from tumbler_agents.context.worth import is_full, least_freed

__all__ = ["Cut", "is_note", "settle"]

_NOTE: Final = re.compile(r"\[(\d{1,9}) earlier steps? left out\]")
_ROOMY: Final = 0.9
"""Part of the limit that is left when messages are shortened: at the limit itself the next turn would not fit."""


def is_note(entry: LogEntry) -> bool:
    """Return whether the entry is the note of an earlier cut; no output is, whatever its words are."""
    return _noted(entry) is not None


class Cut:
    """What is to go from a view, and what the next prompt takes without it.

    Pinned entries, and exchanges that hold one or whose calls are not all answered, never go. Answers that no prompt
    has held go only by `squeeze`.
    """

    def __init__(self, view: View, used: int) -> None:
        """Start with nothing gone; `used` is what the prompt takes now."""
        self._entries = view.entries
        self._used = used
        self._count = counter(view)
        self._frame = frame_tokens(view)
        self._notes = [entry for entry in view.entries if is_note(entry) and not entry.pinned]
        self._gone: dict[int, LogEntry] = {}
        self.gone_tokens = 0
        """Of all that goes."""
        self._steps: set[int] = set()
        """The exchanges that are gone."""
        self._others = 0
        """How many steps the other entries that are gone stand for."""
        self._short: dict[int, tuple[str, int]] = {}
        """Entry id → what is shown of it, and how many tokens that saves."""
        self._heading: tuple[str, int | None] | None = None
        self.exchanges: Sequence[Exchange] = [each for each in view.exchanges() if _may_go(each)]
        """Those that may go, oldest first."""

    @property
    def left(self) -> int:
        """Return what the prompt would take."""
        note = self._frame + self._count(self._text()) if self._gone else 0
        return self._used - self.gone_tokens - self._saved(self._short) + note

    @property
    def rewrites(self) -> bool:
        """Return whether anything goes, or is shortened, that a prompt has held."""
        return any(entry.shown and (entry.id in self._gone or entry.id in self._short) for entry in self._entries)

    def say(self, text: str, call: int | None) -> None:
        """Let a text stand for what goes, in place of the note; `call` is the model's whose words it holds.

        What was shortened to make room for the text is whole again: how much it needs is known now.
        """
        self._heading = text, call
        self._short.clear()

    def drop(self, exchanges: Iterable[Exchange]) -> None:
        """Leave out those of the exchanges whose answers have all been shown, and the notes of earlier cuts."""
        for exchange in exchanges:
            if _may_go(exchange) and not has_unseen(exchange):
                self.forget(exchange.entries)

    def forget(self, entries: Iterable[LogEntry]) -> None:
        """Leave out entries: whole exchanges, or messages of none."""
        found = list(entries)
        for entry in (*found, *self._notes) if found else ():
            if entry.id in self._gone:
                continue
            self._gone[entry.id] = entry
            self.gone_tokens += entry.tokens
            if entry.exchange is None:
                self._others += _noted(entry) or 1
            else:
                self._steps.add(entry.exchange)

    def shed(self, exchanges: Iterable[Exchange], goal: int) -> None:
        """Leave out one exchange after the other, in the given order, until the prompt takes at most `goal`."""
        for exchange in exchanges:
            if self.left <= goal:
                return
            self.drop([exchange])

    def shorten(self, goal: int) -> None:
        """Shorten the new answers and those of the newest exchange, then messages between, as far as `goal` asks."""
        remaining = self._remaining()
        new = [each for each in remaining if has_unseen(each) or each is remaining[-1]]
        self._shorten([entry for each in new for entry in each.entries if is_observation(entry)], goal)
        self._shorten(self._between(), goal)

    def squeeze(self, goal: int) -> None:
        """Make room at any price: shorten what can be, then leave out what is still there, the newest last."""
        self.shorten(goal)
        if self.left <= goal:
            return
        for entries in (*(each.entries for each in self._remaining()), *([entry] for entry in self._between())):
            if self.left > goal:
                self.forget(entries)
        # What is left may have more room now than it was shortened to.
        self._short.clear()
        self.shorten(goal)

    def edits(self, limit: int) -> list[Edit]:
        """Return the edits; the text that stands for what goes is left away only where it alone does not fit."""
        ids = tuple(entry.id for entry in self._entries if entry.id in self._gone)
        edits: list[Edit] = [
            Replace(id=entry_id, content=text, reason="does not fit")
            for entry_id, (text, _) in self._short.items()
            if entry_id not in self._gone
        ]
        if not ids:
            return edits
        text, call = self._text(), self._heading[1] if self._heading else None
        without = self.left - self._frame - self._count(text)
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
        steps = len(self._steps) + self._others
        return f"[{steps} earlier step{'s' if steps != 1 else ''} left out]"

    def _remaining(self) -> Sequence[Exchange]:
        return [each for each in self.exchanges if each.entries[0].id not in self._gone]

    def _between(self) -> Sequence[LogEntry]:
        loose = (entry for entry in self._entries if entry.exchange is None and entry.message.role == "user")
        return [entry for entry in loose if not entry.pinned and entry.id not in self._gone]

    def _shorten(self, entries: Sequence[LogEntry], goal: int) -> None:
        over, content = self.left - goal, {entry.id: entry.message.content for entry in entries}
        if over <= 0:
            return
        for entry_id, text in shorten(entries, over + self._saved(content), self._count).items():
            self._short[entry_id] = text, self._count(content[entry_id]) - self._count(text)

    def _saved(self, ids: Iterable[int]) -> int:
        """Return how many tokens less those of the entries take that are shortened."""
        return sum(self._short[each][1] for each in ids if each in self._short and each not in self._gone)


def settle(cut: Cut, budget: Budget, state: State, in_a_row: int) -> Plan:
    """Return the plan of a cut: squeezed until the prompt fits, and none where too little of a fitting one is freed.

    Takes down in the state how many rewrites there have been in a row, with this one.
    """
    if not is_full(budget) and budget.used - cut.left < least_freed(budget):
        return Plan()
    if cut.left > budget.limit:
        cut.shorten(int(_ROOMY * budget.limit))
        cut.squeeze(budget.limit)
    state["in_a_row"] = in_a_row + 1 if cut.rewrites else 0
    return Plan(edits=cut.edits(budget.limit))


def _may_go(exchange: Exchange) -> bool:
    return not exchange.open and not any(entry.pinned for entry in exchange.entries)


def _noted(entry: LogEntry) -> int | None:
    """Return for how many steps the note of an earlier cut stands; None for any other entry."""
    match = _NOTE.fullmatch(entry.message.content) if entry.summary else None
    return int(match[1]) if match else None
