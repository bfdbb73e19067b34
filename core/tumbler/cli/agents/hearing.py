"""What comes from a keyboard, a pipe or an argument, as text that can be passed on; knows no conversation."""

import io
import sys

__all__ = ["heard", "listen"]

_AS_IT_CAME = "surrogateescape"


def listen() -> None:
    """Let standard input give also bytes that are no text, so that no reading of it fails; `heard` mends them."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors=_AS_IT_CAME)


def heard(text: str) -> str:
    """Return a text in which U+FFFD stands for bytes that are none: no server and no file would take them."""
    return text.encode("utf-8", _AS_IT_CAME).decode("utf-8", "replace")
