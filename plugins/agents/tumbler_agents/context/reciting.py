"""Shows a strategy's text to the policy without a rewrite of what it has seen; knows no strategy."""

from collections.abc import Callable

from tumbler.contracts.context import Append, Budget, Edit, LogEntry, Replace, View
from tumbler.contracts.values import Message

__all__ = ["counter", "is_shown", "newest_exchange", "recite"]


def counter(view: View) -> Callable[[str], int]:
    """Return what counts tokens.

    A view without io has no tokenizer: then a text counts as its UTF-8 bytes, of which it never has more tokens.
    """
    if view.io is not None:
        return view.io.count
    return lambda text: len(text.encode("utf-8", "surrogatepass"))


def is_shown(view: View, text: str) -> bool:
    """Return whether an entry in view holds the text."""
    return any(text in entry.message.content for entry in view.entries)


def newest_exchange(view: View) -> int:
    """Return the number of the newest exchange in view; 0 before the first one."""
    return max((entry.exchange for entry in view.entries if entry.exchange is not None), default=0)


def recite(view: View, budget: Budget, text: str, *, merge: bool = True) -> tuple[Edit, ...]:
    """Return the edit that shows the text at the end of the prompt; none while a call is open, or where it cannot fit.

    With `merge` it becomes part of the newest entry where no prompt has held that one, else a message of its own;
    both keep the token prefix. Without, it is a message that only the next prompt holds.
    """
    if not view.entries or any(exchange.open for exchange in view.exchanges()):
        return ()
    count = counter(view)
    if budget.used + count(f"\n\n{text}") + _frame(view, count) > budget.limit:
        return ()
    if not merge:
        return (Append(message=Message(role="user", content=text), volatile=True),)
    newest = view.entries[-1]
    if not _takes_text(newest):
        return (Append(message=Message(role="user", content=text)),)
    return (Replace(id=newest.id, content=f"{newest.message.content}\n\n{text}", reason="recital"),)


def _frame(view: View, count: Callable[[str], int]) -> int:
    """Return the tokens that a template puts around a user's message, as those in view show it."""
    users = (entry for entry in view.entries if entry.message.role == "user")
    return max((entry.tokens - count(entry.message.content) for entry in users), default=0)


def _takes_text(entry: LogEntry) -> bool:
    fixed = entry.shown or entry.pinned or entry.sampled or entry.summary
    return not fixed and entry.message.role in ("user", "tool")
