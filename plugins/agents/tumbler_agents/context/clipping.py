"""Cuts texts to a number of tokens, and deals room out among several; knows no log."""

from collections.abc import Sequence

from tumbler_agents.context.excerpt import Count, excerpt

__all__ = ["clip", "level"]


def clip(text: str, tokens: int, count: Count) -> str:
    """Return the text in at most `tokens` tokens: whole, as head and tail, or empty where not even those fit."""
    if count(text) <= tokens:
        return text
    shown = excerpt(text, tokens, head_share=0.5, count=count)
    return shown if shown is not None and count(shown) <= tokens else ""


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
