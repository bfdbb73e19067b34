"""Cuts what no prompt has held yet where it is too long for the window, and no further; knows no strategy."""

from tumbler.contracts.context import LogEntry, Replace, View
from tumbler_agents.context.clipping import shorten
from tumbler_agents.context.measuring import counter, freed_by
from tumbler_agents.context.middle import take_apart

__all__ = ["fit_new"]


def fit_new(view: View, over: int) -> tuple[Replace, ...] | None:
    """Return how new answers and words are cut for the prompt to take `over` tokens less; None where it cannot be had.

    No prompt has held them: to cut them is no rewrite, and the policy still sees the ends of what it called for.
    """
    if over <= 0:
        return ()
    new = [entry for entry in take_apart(view).new if _can_be_cut(entry)]
    cut = tuple(
        Replace(id=entry_id, content=text, reason="longer than the window")
        for entry_id, text in shorten(new, over, counter(view)).items()
    )
    return cut if freed_by(cut, view) >= over else None


def _can_be_cut(entry: LogEntry) -> bool:
    return not (entry.sampled or entry.shown) and entry.message.role in ("user", "tool")
