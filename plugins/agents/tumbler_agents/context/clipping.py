"""Cuts texts to a number of tokens, and deals room out among several; knows no strategy."""

from collections.abc import Mapping, Sequence
from typing import Final

from tumbler.contracts.context import LogEntry
from tumbler_agents.context.excerpt import Count, excerpt

__all__ = ["clip", "level", "shorten"]

_HEAD_SHARE: Final = 0.5
_SHORTEST: Final = 32
"""Tokens below which an entry is not shortened further."""


def clip(text: str, tokens: int, count: Count) -> str:
    """Return the text in at most `tokens` tokens: whole, as head and tail, or empty where not even those fit."""
    if count(text) <= tokens:
        return text
    shown = excerpt(text, tokens, head_share=_HEAD_SHARE, count=count)
    return shown if shown is not None and count(shown) <= tokens else ""


def shorten(entries: Sequence[LogEntry], over: int, count: Count) -> Mapping[int, str]:
    """Return the longest of the entries cut to one size, so that all of them take `over` tokens less: entry id → text.

    That may not be reached: an entry stays as it is where a line for what is left out would not make it shorter.
    """
    sizes = [entry.tokens for entry in entries]
    most = max(_SHORTEST, level(sizes, sum(sizes) - over)) if over > 0 else max(sizes, default=0)
    shown: dict[int, str] = {}
    for entry in entries:
        frame = entry.tokens - count(entry.message.content)
        if entry.tokens > most:
            text = excerpt(entry.message.content, most - frame, head_share=_HEAD_SHARE, count=count)
            shown |= {} if text is None else {entry.id: text}
    return shown


def level(sizes: Sequence[int], room: int) -> int:
    """Return the greatest size to which all can be cut so that together they take at most `room`.

    Small ones stay whole, and what they leave over goes to the great ones.
    """
    left = room
    rest = sorted(sizes)
    for index, size in enumerate(rest):
        share = left // (len(rest) - index)
        if size > share:
            return max(share, 0)
        left -= size
    return max(sizes, default=0)
