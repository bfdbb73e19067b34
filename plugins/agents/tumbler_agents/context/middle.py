"""Chooses what of a conversation is to be left out: whole exchanges between its beginning and its end.

What is pinned and exchanges with an open call stay. Knows no strategy.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tumbler.contracts.context import Exchange, LogEntry, View
from tumbler_agents.context.measuring import tokens_of
from tumbler_agents.context.observations import has_unseen

__all__ = ["Parts", "choose_middle", "take_apart"]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a view consists of."""

    closed: tuple[Exchange, ...]
    """Exchanges that may be left out, oldest first."""
    words: tuple[LogEntry, ...]
    """Messages that belong to no exchange, oldest first: what a user said in between."""
    new: tuple[LogEntry, ...]
    """Of these, the newest exchange, those with an answer that no prompt has held, and words that none has held."""
    movable: frozenset[int]
    """The ids of all that may be left out: exchanges, words, and summaries of what was left out before."""
    fixed: int
    """The tokens of all else: pinned entries and open exchanges."""


def take_apart(view: View) -> Parts:
    """Return the parts of a view."""
    closed = tuple(each for each in view.exchanges() if not each.open and not any(e.pinned for e in each.entries))
    loose = [entry for entry in view.entries if entry.exchange is None and not entry.pinned]
    words = tuple(entry for entry in loose if not entry.summary)
    new = [entry for each in closed if has_unseen(each) or each is closed[-1] for entry in each.entries]
    movable = frozenset(entry.id for entry in (*loose, *(entry for each in closed for entry in each.entries)))
    return Parts(
        closed=closed,
        words=words,
        new=(*new, *(entry for entry in words if not entry.shown)),
        movable=movable,
        fixed=tokens_of(entry for entry in view.entries if entry.id not in movable),
    )


def choose_middle(view: View, *, keep_first: int, keep_last: int, room: int, spare: bool) -> tuple[LogEntry, ...]:
    """Return what is to be left out, so that what stays takes at most `room` tokens, if that can be had.

    Kept are, as far as they fit: the newest exchange; what the user said in between, the newest first and within half
    of what is left; the last exchanges; the first ones. Summaries are left out for the new one to stand for them.
    With `spare` the newest exchange stays even where it does not fit, and so does all that no prompt has held.
    """
    parts = take_apart(view)
    left = room - parts.fixed
    kept: set[int] = set()

    def keep(groups: Iterable[Sequence[LogEntry]], within: int) -> int:
        for entries in groups:
            if (tokens := tokens_of(entries)) > within:
                break
            within -= tokens
            kept.update(entry.id for entry in entries)
        return within

    spared = list(parts.new if spare else ())
    kept.update(entry.id for entry in spared)
    left -= tokens_of(spared)
    newest = [each.entries for each in parts.closed[-1:] if each.entries[0].id not in kept]
    left = keep(newest, left)
    half = left // 2
    left -= half - keep(([entry] for entry in reversed(parts.words) if entry.id not in kept), half)
    older = [each.entries for each in parts.closed[:-1] if each.entries[0].id not in kept]
    last = older[max(0, len(older) + 1 - keep_last) :]
    left = keep(reversed(last), left)
    keep(older[: min(keep_first, len(older) - len(last))], left)
    return tuple(entry for entry in view.entries if entry.id in parts.movable and entry.id not in kept)
