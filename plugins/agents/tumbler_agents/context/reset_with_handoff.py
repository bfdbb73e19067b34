"""The context strategy `reset-with-handoff`: start afresh from a note that the model writes to itself."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Final

from pydantic import PositiveInt

from tumbler.config import Settings
from tumbler.contracts.context import Budget, LogEntry, Plan, State, StrategyCaps, StrategyIO, Trigger, View
from tumbler.contracts.environment import Task
from tumbler_agents.context.cutting import Cut, settle
from tumbler_agents.context.handoff import words_around, write_handoff
from tumbler_agents.context.measuring import overhead, tokens_of
from tumbler_agents.context.observations import has_unseen
from tumbler_agents.context.remembered import read_count, read_share
from tumbler_agents.context.shares import ShareOrRange, draw_share
from tumbler_agents.context.worth import is_due, is_full, least_freed

__all__ = ["ResetWithHandoff", "ResetWithHandoffSettings"]

_USERS_SHARE: Final = 4
"""What users said in between is kept word for word up to this part of the context, the newest first."""
_NOTE_SHARE: Final = 4
"""A note takes at most this part of the context."""
_SHORTEST_NOTE: Final = 16
"""A note of fewer tokens is not worth a call."""
_FALLBACK_KEEPS: Final = 2
"""The newest exchanges that stay where no note could be had."""


class ResetWithHandoffSettings(Settings):
    """When to start afresh, and how long the note may be."""

    threshold: ShareOrRange = 0.8
    """Start afresh once this share of the context is used; a range such as [0.6, 0.9] is drawn from for each group of
    rollouts."""

    note_tokens: PositiveInt = 1000
    """Tokens of the note at most; never more than a quarter of the context."""

    trainable: bool = True
    """Whether the policy is trained on the notes that it writes."""


class ResetWithHandoff:
    """Leaves all exchanges and earlier notes out for one new note; it bounds every conversation.

    What users said in between stays word for word as far as it is short, and so do answers that no prompt has held.
    Where the model gives no note, the newest exchanges stay instead.
    """

    def __init__(self, settings: ResetWithHandoffSettings) -> None:
        """Keep the settings."""
        self._settings = settings

    @property
    def caps(self) -> StrategyCaps:
        """Promise to bound the prompt, with rare rewrites that cost a call."""
        return StrategyCaps(bounded=True, calls_model=True, rewrites="batched")

    def start(self, task: Task, rng: Random) -> State:
        """Draw the threshold."""
        return {"threshold": draw_share(self._settings.threshold, rng), "in_a_row": 0}

    def threshold(self, state: State) -> float:
        """Return the share that was drawn."""
        return read_share(state, "threshold")

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        """Start afresh where the threshold is passed or somebody asks for it, if it frees enough."""
        in_a_row, state["in_a_row"] = read_count(state, "in_a_row"), 0
        if not is_due(budget, why, self.threshold(state), in_a_row):
            return Plan()
        cut = _without_note(view, budget) if view.io is None else await self._start_afresh(view, budget, view.io)
        return settle(cut, budget, state, in_a_row)

    async def _start_afresh(self, view: View, budget: Budget, io: StrategyIO) -> Cut:
        most, around = min(self._settings.note_tokens, budget.limit // _NOTE_SHARE), words_around(io)
        cut = Cut(view, budget.used)
        cut.drop(cut.exchanges)
        cut.forget(_outdated(view.entries, budget.limit // _USERS_SHARE))
        if is_full(budget):
            cut.shorten(budget.limit - most - around)
        tokens = min(most, budget.limit - cut.left - around)
        if tokens < _SHORTEST_NOTE and is_full(budget):
            return _without_note(view, budget)
        # What is new and too long is cut by itself where too little else would go for the note to be worth its cost.
        least = 1 if is_full(budget) else least_freed(budget)
        if tokens < _SHORTEST_NOTE or cut.gone_tokens < tokens + around + least:
            return Cut(view, budget.used)
        seen = _seen(view)
        told = replace(budget, used=overhead(view, budget) + tokens_of(seen.entries))
        note = await write_handoff(seen, told, io, tokens=tokens, trainable=self._settings.trainable)
        if note is None:
            return _without_note(view, budget)
        cut.say(note.text, note.call)
        return cut


def _seen(view: View) -> View:
    """Return the view without the steps that stay: a note must tell of the others, and has no room to tell of these."""
    new = {entry.id for each in view.exchanges() if not each.open and has_unseen(each) for entry in each.entries}
    return View(entries=[entry for entry in view.entries if entry.id not in new], io=view.io)


def _without_note(view: View, budget: Budget) -> Cut:
    cut = Cut(view, budget.used)
    cut.drop(cut.exchanges[:-_FALLBACK_KEEPS])
    cut.shed(cut.exchanges[-_FALLBACK_KEEPS:-1], min(budget.limit // 2, budget.used - least_freed(budget)))
    return cut


def _outdated(entries: Sequence[LogEntry], room: int) -> list[LogEntry]:
    """Return what a new note replaces: earlier notes and summaries, and what users said too long ago to keep."""
    outdated: list[LogEntry] = []
    for entry in reversed(entries):
        if entry.exchange is not None or entry.pinned or entry.message.role != "user":
            continue
        if not entry.summary:
            room -= entry.tokens
        if entry.summary or (room < 0 and entry.shown):
            outdated.append(entry)
    return outdated
