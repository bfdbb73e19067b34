"""Chooses what of a conversation is to be left out: whole exchanges between its beginning and its end.

What is pinned and exchanges with an open call stay. Knows no strategy.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tumbler.contracts.context import Exchange, LogEntry, View

__all__ = ["Parts", "choose_middle", "take_apart"]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a view consists of."""

    closed: tuple[Exchange, ...]
    """Exchanges that may be left out, oldest first."""
    words: tuple[LogEntry, ...]
    """Messages that belong to no exchange, oldest first: what a user said in between."""
    summaries: tuple[LogEntry, ...]
    """What stands for entries that were left out before."""
    fixed: int
    """The tokens of all else: pinned entries and open exchanges."""


def take_apart(view: View) -> Parts:
    """Return the parts of a view."""
    closed = tuple(each for each in view.exchanges() if not each.open and not any(e.pinned for e in each.entries))
    loose = [entry for entry in view.entries if entry.exchange is None and not entry.pinned]
    movable = sum(each.tokens for each in closed) + sum(entry.tokens for entry in loose)
    return Parts(
        closed=closed,
        words=tuple(entry for entry in loose if not entry.summary),
        summaries=tuple(entry for entry in loose if entry.summary),
        fixed=sum(entry.tokens for entry in view.entries) - movable,
    )


def choose_middle(view: View, *, keep_first: int, keep_last: int, room: int, spare: bool) -> tuple[LogEntry, ...]:
    """Return what is to be left out, so that what stays takes at most `room` tokens, if that can be had.

    Kept are, as far as they fit: the newest exchange; what the user said in between, the newest first and within half
    of what is left; the last exchanges; the first ones. Summaries are left out for the new one to stand for them.
    With `spare` the newest exchange stays even where it does not fit.
    """
    parts = take_apart(view)
    left = room - parts.fixed
    kept: set[int] = set()

    def keep(groups: Iterable[tuple[tuple[int, ...], int]], within: int) -> int:
        for ids, tokens in groups:
            if tokens > within:
                break
            within -= tokens
            kept.update(ids)
        return within

    newest = parts.closed[-1:]
    if spare:
        kept.update(*(each.ids for each in newest))
        left -= sum(each.tokens for each in newest)
    else:
        left = keep(_sized(newest), left)
    half = left // 2
    left -= half - keep((((entry.id,), entry.tokens) for entry in reversed(parts.words)), half)
    older = parts.closed[: len(parts.closed) - len(newest)]
    last = older[max(0, len(older) + 1 - keep_last) :]
    left = keep(_sized(reversed(last)), left)
    keep(_sized(older[: min(keep_first, len(older) - len(last))]), left)
    return tuple(_left_out(view.entries, parts, kept))


def _sized(exchanges: Iterable[Exchange]) -> Iterator[tuple[tuple[int, ...], int]]:
    return ((each.ids, each.tokens) for each in exchanges)


def _left_out(entries: Sequence[LogEntry], parts: Parts, kept: set[int]) -> Iterator[LogEntry]:
    movable = {entry.id for each in parts.closed for entry in each.entries}
    movable.update(entry.id for entry in (*parts.words, *parts.summaries))
    return (entry for entry in entries if entry.id in movable and entry.id not in kept)
