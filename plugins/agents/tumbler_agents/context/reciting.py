"""Shows a strategy's text to the policy without a rewrite of what it has seen; knows no strategy."""

from tumbler.contracts.context import Append, Budget, Edit, LogEntry, Replace, View
from tumbler.contracts.values import Message
from tumbler_agents.context.measuring import counter, frame_tokens

__all__ = ["is_shown", "newest_exchange", "recite"]


def is_shown(view: View, text: str) -> bool:
    """Return whether an entry in view holds the text."""
    # What strategies look for was mostly said of late.
    return any(text in entry.message.content for entry in reversed(view.entries))


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
    if budget.used + count(f"\n\n{text}") + frame_tokens(view) > budget.limit:
        return ()
    if not merge:
        return (Append(message=Message(role="user", content=text), volatile=True),)
    newest = view.entries[-1]
    if not _takes_text(newest):
        return (Append(message=Message(role="user", content=text)),)
    return (Replace(id=newest.id, content=f"{newest.message.content}\n\n{text}", reason="recital"),)


def _takes_text(entry: LogEntry) -> bool:
    fixed = entry.shown or entry.pinned or entry.sampled or entry.summary
    return not fixed and entry.message.role in ("user", "tool")
