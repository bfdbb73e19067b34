"""Bounds the text that a call brings: its beginning and end are kept, and what was dropped is counted."""

__all__ = ["bounded", "cut_line", "decoded"]


def bounded(text: str, limit: int) -> str:
    """Return at most `limit` characters of the text, and a line that counts those left out between head and tail.

    Cuts lie at line ends where one is near.
    """
    if len(text) <= limit:
        return text
    head, tail = text[: limit // 2], text[len(text) - (limit - limit // 2) :]
    head = head[: head.rfind("\n") + 1] if "\n" in head[-len(head) // 4 :] else head
    tail = tail[tail.find("\n") + 1 :] if "\n" in tail[: len(tail) // 4] else tail
    dropped = text[len(head) : len(text) - len(tail)]
    lines = dropped.count("\n")
    counted = f"{len(dropped)} characters" + (f", {lines} lines," if lines else "")
    return f"{head.rstrip(chr(10))}\n[... {counted} left out ...]\n{tail}"


def cut_line(line: str, limit: int) -> str:
    """Return one line, cut to `limit` characters; the cut is counted."""
    if len(line) <= limit:
        return line
    return f"{line[:limit]} [... {len(line) - limit} characters left out]"


def decoded(data: bytes) -> str:
    """Return bytes of any origin as text; what is no UTF-8 becomes U+FFFD."""
    return data.decode("utf-8", "replace")
