"""Puts a summary, or a note where there is none, in the place of entries that are left out; asks no model."""

from collections.abc import Sequence
from dataclasses import dataclass

from tumbler.contracts.context import Budget, Drop, Edit, LogEntry, Replace, StrategyReply, Summarise, View
from tumbler_agents.context.fitting import fit_new
from tumbler_agents.context.measuring import counter, frame_tokens, freed_by, tokens_of
from tumbler_agents.context.worth import is_full, least_freed

__all__ = ["NOTE", "SHORTEST", "LeavingOut", "words_around"]

NOTE = "[Earlier messages were left out here, and no summary of them could be made.]"
SHORTEST = 48
"""A summary of fewer tokens is not worth a call."""
_HEADER = "[Summary of the earlier conversation, which is no longer shown]\n"
_CUT_OFF = "\n[the summary was cut off here]"


def words_around(view: View) -> int:
    """Return what a summary takes besides its own words."""
    return frame_tokens(view) + counter(view)(_HEADER) + counter(view)(_CUT_OFF)


@dataclass(frozen=True, kw_only=True)
class LeavingOut:
    """Entries to leave out, and how much may stand in their place."""

    view: View
    gone: Sequence[LogEntry]
    clips: tuple[Replace, ...]
    """What is new and cut besides, to leave room for the longest text."""
    over: int
    """Tokens by which what stays is longer than the window; below 0 where it is shorter."""
    room: int
    """Tokens that a text in their place may have: it must be worth the rewrite, be shorter than they are, and fit."""

    @classmethod
    def of(cls, view: View, budget: Budget, gone: Sequence[LogEntry], clips: Sequence[Replace] = ()) -> "LeavingOut":
        """Return how `gone` can be left out of the view when `clips` are carried out, too."""
        cut, tokens = freed_by(clips, view), tokens_of(gone)
        least = 0 if is_full(budget) else least_freed(budget)
        over = budget.used - tokens - budget.limit
        room = min(cut + tokens - least, tokens - 1, cut - over) - words_around(view)
        return cls(view=view, gone=gone, clips=tuple(clips), over=over, room=room)

    @property
    def fresh(self) -> bool:
        """Return whether there is more to sum up than earlier summaries."""
        return any(not entry.summary for entry in self.gone)

    def summarised(self, reply: StrategyReply) -> tuple[Edit, ...] | None:
        """Return the edits that show the reply; None where it is too long."""
        if counter(self.view)(reply.text) > self.room:
            return None
        text = _HEADER + reply.text + (_CUT_OFF if reply.finish_reason == "length" else "")
        return self._with_clips(Summarise(ids=tuple(entry.id for entry in self.gone), text=text, call=reply.call))

    def noted(self) -> tuple[Edit, ...]:
        """Return the edits that show a note; earlier summaries stay where they fit, so that what they tell is kept."""
        ids = tuple(entry.id for entry in self.gone if not entry.summary or entry.message.content == NOTE)
        earlier = tokens_of(entry for entry in self.gone if entry.id not in ids)
        note = counter(self.view)(NOTE)
        if self.fresh and self.room - earlier >= note:
            return self._with_clips(Summarise(ids=ids, text=NOTE), earlier)
        everything = tuple(entry.id for entry in self.gone)
        if self.fresh and self.room >= note:
            return self._with_clips(Summarise(ids=everything, text=NOTE))
        return self._with_clips(Drop(ids=everything)) if everything else self.clips

    def _with_clips(self, edit: Summarise | Drop, staying: int = 0) -> tuple[Edit, ...]:
        """Return the edit, and what is new cut by no more than it needs; `staying` tokens of what was to go stay."""
        taken = frame_tokens(self.view) + counter(self.view)(edit.text) if isinstance(edit, Summarise) else 0
        clips = fit_new(self.view, self.over + taken + staying) if self.clips else ()
        return (*(self.clips if clips is None else clips), edit)
