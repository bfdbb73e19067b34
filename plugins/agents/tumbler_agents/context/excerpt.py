"""Head and tail of a text, measured in tokens, with a line for what is left out; knows no log."""

import re
import unicodedata
from collections.abc import Callable

__all__ = ["Count", "excerpt", "head_of", "split_frame", "tail_of"]

Count = Callable[[str], int]
"""How many tokens a text has."""

_FRAME = re.compile(r"(<([A-Za-z_][\w.-]*)>\n)(.*)(\n</\2>)", re.DOTALL)
_FIRST_GUESS = 4
"""Characters for each token wanted; only where the search starts."""


def split_frame(text: str) -> tuple[str, str, str]:
    """Return the opening tag that a dialect has put around a tool's output, the output, and the closing tag.

    Both tags are empty where there are none, and opening + output + closing is always the text.
    """
    match = _FRAME.fullmatch(text)
    return (match[1], match[3], match[4]) if match else ("", text, "")


def excerpt(text: str, tokens: int, *, head_share: float, count: Count, hint: str = "") -> str | None:
    """Return head and tail of a text in at most `tokens` tokens, or None where that would not make it shorter.

    A line between them says how many tokens and lines are left out, and then `hint`. Where `tokens` does not even
    hold that line, the line is all that is left. A tag around the whole text stays.
    """
    opening, body, closing = split_frame(text)
    whole, lines = count(body), body.count("\n") + 1
    kept = max(0, tokens - count(opening + _gap(whole, lines, hint) + closing))
    while True:
        head = head_of(body, round(kept * head_share), count)
        tail = tail_of(body[len(head) :], kept - count(head), count)
        middle = body[len(head) : len(body) - len(tail)]
        gap = _gap(count(middle), middle.strip("\n").count("\n") + 1, hint)
        shown = f"{opening}{_join(head, gap, tail)}{closing}"
        over = count(shown) - tokens
        if over <= 0 or kept == 0:
            return shown if count(shown) < count(text) else None
        kept = max(0, kept - over)


def head_of(text: str, tokens: int, count: Count) -> str:
    """Return the longest beginning of at most `tokens` tokens, whole lines where that costs less than half of it."""
    end = _longest(len(text), tokens, lambda size: count(text[:size]))
    while 0 < end < len(text) and _joins(text[end - 1], text[end]):
        end -= 1
    line = text.rfind("\n", 0, end) + 1 if end < len(text) else end
    return text[: line if line * 2 > end else end]


def tail_of(text: str, tokens: int, count: Count) -> str:
    """Return the longest end of at most `tokens` tokens, whole lines where that costs less than half of it."""
    start = len(text) - _longest(len(text), tokens, lambda size: count(text[len(text) - size :]))
    while 0 < start < len(text) and _joins(text[start - 1], text[start]):
        start += 1
    line = text.find("\n", start) + 1 if start > 0 and text[start - 1] != "\n" else start
    return text[line if line > 0 and (len(text) - line) * 2 > len(text) - start else start :]


def _longest(most: int, tokens: int, count: Callable[[int], int]) -> int:
    """Return the greatest size up to `most` that has at most `tokens` tokens.

    Starts small and doubles, so that the cost depends on what is kept and not on the whole text.
    """
    low, high = 0, min(most, _FIRST_GUESS * max(tokens, 1))
    if tokens <= 0:
        return 0
    while count(high) <= tokens:
        if high == most:
            return most
        low, high = high, min(most, 2 * high)
    while high - low > 1:
        middle = (low + high) // 2
        if count(middle) <= tokens:
            low = middle
        else:
            high = middle
    return low


def _joins(before: str, after: str) -> bool:
    """Return whether two characters are drawn as one, as far as can be told without tables of scripts."""
    joiner = "\u200d"
    return before == joiner or after == joiner or unicodedata.category(after) in ("Mn", "Me", "Mc")


def _gap(tokens: int, lines: int, hint: str) -> str:
    also = f"; {hint}" if hint else ""
    return f"[{tokens} tokens in {lines} line{'s' if lines != 1 else ''} left out{also}]"


def _join(head: str, gap: str, tail: str) -> str:
    before = "" if not head or head.endswith("\n") else "\n"
    after = "" if not tail or tail.startswith("\n") else "\n"
    return f"{head}{before}{gap}{after}{tail}"
