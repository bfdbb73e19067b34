"""Thinking within a reply, `<think>…</think>`, and how a dialect's own tags stand in text that only names them.

A tag in text gets a backslash after its `<`, and a tag that already has some gets one more: so any text can be
written, text without tags is written as it is, and reading takes one backslash away.
"""

import re

__all__ = ["END", "START", "close_thinking", "join_thinking", "quote", "quote_json", "split_thinking", "unquote"]

START = "<think>"
END = "</think>"

_TAGS = r"/?(?:think|tool_call)>"
_BARE = re.compile(rf"<(\\*{_TAGS})")
_QUOTED = re.compile(rf"<\\(\\*{_TAGS})")
_IN_JSON = re.compile(rf"<(?={_TAGS})")


def quote(text: str) -> str:
    """Return text whose tags are no longer tags."""
    return _BARE.sub(r"<\\\1", text)


def unquote(text: str) -> str:
    """Return what `quote` was given."""
    return _QUOTED.sub(r"<\1", text)


def quote_json(text: str) -> str:
    """Return the same JSON without tags in its strings."""
    return _IN_JSON.sub(r"\\u003c", text)


def join_thinking(thinking: str, rest: str) -> str:
    """Return a reply that thinks first; `split_thinking` gives both back."""
    return f"{START}\n{quote(thinking)}\n{END}\n\n{rest}" if thinking else rest


def split_thinking(text: str) -> tuple[str, str, bool]:
    """Return what a reply thinks, the rest, and whether the thinking had its opening tag.

    Thinking that is never closed takes the whole reply: it was cut off. A reply without an opening tag may still
    hold a closing one, where the model's template has written the first; see `close_thinking`.
    """
    opening = text.lstrip()
    if not opening.startswith(START):
        return "", text, False
    inside = opening[len(START) :]
    end = inside.find(END)
    return *close_thinking(inside, len(inside) if end < 0 else end), True


def close_thinking(text: str, end: int) -> tuple[str, str]:
    """Return the thinking before the closing tag at an index, and the rest."""
    inner, rest = text[:end], text[end + len(END) :]
    return unquote(inner.removeprefix("\n").removesuffix("\n")), rest.removeprefix("\n").removeprefix("\n")
