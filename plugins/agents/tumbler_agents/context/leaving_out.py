"""Puts a summary, or a note where there is none, in the place of entries that are left out; asks no model."""

from collections.abc import Sequence
from dataclasses import dataclass

from tumbler.contracts.context import Budget, Drop, Edit, LogEntry, Replace, StrategyReply, Summarise, View
from tumbler_agents.context.reciting import counter
from tumbler_agents.context.worth import least_freed

__all__ = ["NOTE", "SHORTEST", "LeavingOut", "frame_tokens", "overhead"]

NOTE = "[Earlier messages were left out here, and no summary of them could be made.]"
SHORTEST = 48
"""A summary of fewer tokens is not worth a call."""
_HEADER = "[Summary of the earlier conversation, which is no longer shown]\n"
_CUT_OFF = "\n[the summary was cut off here]"


@dataclass(frozen=True, kw_only=True)
class LeavingOut:
    """Entries to leave out, and how much may stand in their place."""

    view: View
    gone: Sequence[LogEntry]
    clips: tuple[Replace, ...]
    """Answers that are cut besides."""
    room: int
    """Tokens that a text in their place may have: it must be worth the rewrite, be shorter than they are, and fit."""

    @classmethod
    def of(cls, view: View, budget: Budget, gone: Sequence[LogEntry], clips: Sequence[Replace] = ()) -> "LeavingOut":
        """Return how `gone` can be left out of the view when `clips` are carried out, too."""
        without = {entry.id for entry in gone}
        clips = tuple(each for each in clips if each.id not in without)
        tokens = sum(entry.tokens for entry in gone)
        cut = _freed(view, clips)
        extra = frame_tokens(view) + counter(view)(_HEADER) + counter(view)(_CUT_OFF)
        fits = budget.limit - (budget.used - cut - tokens)
        room = min(cut + tokens - least_freed(budget), tokens - 1, fits) - extra
        return cls(view=view, gone=gone, clips=clips, room=room)

    @property
    def fresh(self) -> bool:
        """Return whether there is more to sum up than earlier summaries."""
        return any(not entry.summary for entry in self.gone)

    def summarised(self, reply: StrategyReply) -> tuple[Edit, ...] | None:
        """Return the edits that show the reply; None where it is too long."""
        if counter(self.view)(reply.text) > self.room:
            return None
        text = _HEADER + reply.text + (_CUT_OFF if reply.finish_reason == "length" else "")
        return (*self.clips, Summarise(ids=tuple(entry.id for entry in self.gone), text=text, call=reply.call))

    def noted(self) -> tuple[Edit, ...]:
        """Return the edits that show a note; earlier summaries stay where they fit, so that what they tell is kept."""
        ids = tuple(entry.id for entry in self.gone if not entry.summary or entry.message.content == NOTE)
        earlier = sum(entry.tokens for entry in self.gone if entry.id not in ids)
        note = counter(self.view)(NOTE)
        if self.fresh and self.room - earlier >= note:
            return (*self.clips, Summarise(ids=ids, text=NOTE))
        everything = tuple(entry.id for entry in self.gone)
        if self.fresh and self.room >= note:
            return (*self.clips, Summarise(ids=everything, text=NOTE))
        return (*self.clips, Drop(ids=everything)) if everything else self.clips


def overhead(view: View, budget: Budget) -> int:
    """Return what the prompt takes besides the entries in view."""
    return max(0, budget.used - sum(entry.tokens for entry in view.entries))


def frame_tokens(view: View) -> int:
    """Return the tokens that the template puts around a user's message, as those in view have it."""
    first = next((entry for entry in view.entries if entry.message.role == "user"), None)
    return 8 if first is None else max(0, first.tokens - counter(view)(first.message.content))


def _freed(view: View, clips: Sequence[Replace]) -> int:
    content = {entry.id: entry.message.content for entry in view.entries}
    count = counter(view)
    return sum(count(content[each.id]) - count(each.content) for each in clips)
