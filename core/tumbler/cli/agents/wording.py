"""What the person is told in words: why the agent stopped, and what to do about it; prints nothing."""

import unicodedata
from collections.abc import Mapping
from typing import Final

from tumbler.contracts.conversation import Done, DoneReason, TokensUsed

__all__ = ["cleaned", "ending", "usage"]

_ENDINGS: Final[Mapping[DoneReason, str]] = {
    "finished": "",
    "interrupted": "Interrupted. What was done stays done; say how to go on.",
    "turn_limit": "Stopped: the replies for one message are used up (--turns). Say “go on” to give it as many again.",
    "time_limit": "Stopped: the time for one message is over. Say “go on” to give it as much again.",
    "context_overflow": "Stopped: the conversation no longer fits the model's window. /compact makes room; where the "
    "window was said to be larger than it is, mend that with --context-length.",
    "malformed": "Stopped: too many of the model's calls could not be read.",
    "loop": "Stopped: the same calls brought the same results over and over.",
    "terminated": "Stopped: the environment has ended.",
    "truncated": "Stopped: the environment was cut off.",
}
_KEPT: Final = "\n\t\u200c\u200d"
"""Beside what is printable: line ends, tabs, and the joiners of Persian words and of emoji."""


def ending(done: Done) -> str:
    """Return why an agent stopped before it was done; empty where it was."""
    if done.reason == "failed":
        return f"error: {done.text}"
    if done.reason == "blocked":
        return f"Stopped by a hook: {done.text}"
    return _ENDINGS.get(done.reason, done.reason)


def usage(used: TokensUsed, window: int, source: str) -> str:
    """Return how full the window is, and where its size is from."""
    about = "about " if used.estimated else ""
    share = 100 * used.prompt // window if window else 0
    return f"{about}{used.prompt:,} of {window:,} tokens ({share} %; window {source})"


def cleaned(text: str) -> str:
    """Return a text that cannot steer a terminal: what models and files say is nobody's order."""
    text = text.replace("\r\n", "\n")
    return "".join(each if _is_harmless(each) else "\N{REPLACEMENT CHARACTER}" for each in text)


def _is_harmless(letter: str) -> bool:
    # Python counts the spaces of other scripts, such as the ideographic one, as not printable.
    return letter.isprintable() or letter in _KEPT or unicodedata.category(letter) == "Zs"
