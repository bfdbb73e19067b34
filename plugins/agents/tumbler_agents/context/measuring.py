"""How many tokens texts, and what stands around them, take in a view; knows no strategy."""

from collections.abc import Iterable

from tumbler.contracts.context import Budget, Drop, Edit, LogEntry, Replace, Summarise, View
from tumbler_agents.context.excerpt import Count

__all__ = ["counter", "frame_tokens", "freed_by", "overhead", "tokens_of"]


def counter(view: View) -> Count:
    """Return what counts tokens.

    A view without io has no tokenizer: then a text counts as its UTF-8 bytes, of which it never has more tokens.
    """
    if view.io is not None:
        return view.io.count
    return lambda text: len(text.encode("utf-8", "surrogatepass"))


def tokens_of(entries: Iterable[LogEntry]) -> int:
    """Return the tokens of entries."""
    return sum(entry.tokens for entry in entries)


def frame_tokens(view: View) -> int:
    """Return the tokens that the template puts around a user's message, as those in view have it."""
    entries = view.entries
    entry = next((each for each in entries if each.message.role == "user"), entries[0] if entries else None)
    return 0 if entry is None else max(0, entry.tokens - counter(view)(entry.message.content))


def overhead(view: View, budget: Budget) -> int:
    """Return what the prompt takes besides the entries in view."""
    return max(0, budget.used - tokens_of(view.entries))


def freed_by(edits: Iterable[Edit], view: View) -> int:
    """Return how many tokens less the prompt takes after the edits."""
    count, entries = counter(view), {entry.id: entry for entry in view.entries}
    freed = 0
    for edit in edits:
        if isinstance(edit, Replace):
            freed += count(entries[edit.id].message.content) - count(edit.content)
        elif isinstance(edit, Drop | Summarise):
            freed += tokens_of(entries[entry_id] for entry_id in edit.ids)
        if isinstance(edit, Summarise):
            freed -= frame_tokens(view) + count(edit.text)
    return freed
