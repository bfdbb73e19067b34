"""Whether the newest exchange fits the window, and what to cut where it does not; knows no strategy."""

from collections.abc import Sequence

from tumbler.contracts.context import Budget, LogEntry, Replace, View
from tumbler_agents.context.clipping import clip, level
from tumbler_agents.context.leaving_out import SHORTEST, frame_tokens, overhead
from tumbler_agents.context.middle import take_apart
from tumbler_agents.context.reciting import counter

__all__ = ["fit_newest", "newest_fits", "shorten_newest"]


def newest_fits(view: View, budget: Budget, reserve: int) -> bool:
    """Return whether the newest exchange leaves `reserve` tokens free beside what stays in any case."""
    parts = take_apart(view)
    newest = sum(each.tokens for each in parts.closed[-1:])
    return overhead(view, budget) + parts.fixed + newest + reserve <= budget.limit


def fit_newest(view: View, budget: Budget) -> tuple[Replace, ...]:
    """Return how the newest exchange's answers are cut for the prompt to fit with nothing left out; () if it cannot."""
    parts = take_apart(view)
    others = sum(each.tokens for each in parts.closed[:-1])
    loose = sum(entry.tokens for entry in (*parts.words, *parts.summaries))
    return shorten_newest(view, budget.limit - overhead(view, budget) - others - loose)


def shorten_newest(view: View, room: int) -> tuple[Replace, ...]:
    """Return how the newest exchange's answers are cut for all that stays to take at most `room`; () if it cannot be.

    They are answers that no prompt has held: cutting them is no rewrite, and the policy still sees what it called for.
    """
    parts = take_apart(view)
    newest = [entry for each in parts.closed[-1:] for entry in each.entries]
    answers = [entry for entry in newest if _can_be_cut(entry)]
    left = room - parts.fixed - sum(entry.tokens for entry in newest if not _can_be_cut(entry))
    most = _most(answers, left) - frame_tokens(view)
    if most < SHORTEST:
        return ()
    count = counter(view)
    cut = [(entry, clip(entry.message.content, most, count)) for entry in answers]
    return tuple(
        Replace(id=entry.id, content=content, reason="longer than the window")
        for entry, content in cut
        if content != entry.message.content
    )


def _most(answers: Sequence[LogEntry], left: int) -> int:
    return level([entry.tokens for entry in answers], left) if answers else 0


def _can_be_cut(entry: LogEntry) -> bool:
    return not (entry.sampled or entry.shown or entry.pinned) and entry.message.role in ("user", "tool")
