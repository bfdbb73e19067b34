"""The context strategy `reset-with-handoff`: start afresh from a note that the model writes to itself."""

from collections.abc import Sequence
from random import Random
from typing import Final

from pydantic import PositiveInt

from tumbler.config import Settings
from tumbler.contracts.context import Budget, Drop, LogEntry, Plan, State, StrategyCaps, StrategyIO, Trigger, View
from tumbler.contracts.environment import Task
from tumbler_agents.context.cutting import MOST_IN_A_ROW, Cut, make_room, may_go
from tumbler_agents.context.handoff import most_tokens, write_handoff
from tumbler_agents.context.remembered import read_count, read_share
from tumbler_agents.context.shares import ShareOrRange, draw_share
from tumbler_agents.context.worth import least_freed

__all__ = ["ResetWithHandoff", "ResetWithHandoffSettings"]

_USERS_SHARE: Final = 4
"""What users said in between is kept word for word up to this part of the context, the newest first."""
_NOTE_SHARE: Final = 4
"""A note takes at most this part of the context."""
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

    What users said in between stays word for word as far as it is short. Where the model gives no note, the newest
    exchanges stay instead.
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
        due = budget.used >= self.threshold(state) * budget.limit or why in ("tool_request", "user_request")
        in_a_row, state["in_a_row"] = read_count(state, "in_a_row"), 0
        if not due:
            return Plan()
        if view.io is None:
            ids = tuple(entry_id for each in view.exchanges() if may_go(each) for entry_id in each.ids)
            return Plan(edits=[Drop(ids=ids)] if ids else [])
        tired = in_a_row >= MOST_IN_A_ROW
        cut = _without_note(view, budget, view.io) if tired else await self._start_afresh(view, budget, view.io)
        cut = make_room(cut, view, budget, view.io, tired=tired)
        state["in_a_row"] = in_a_row + 1 if cut.rewrites else 0
        return Plan(edits=cut.edits(budget.limit))

    async def _start_afresh(self, view: View, budget: Budget, io: StrategyIO) -> Cut:
        tokens = min(self._settings.note_tokens, max(1, budget.limit // _NOTE_SHARE))
        cut = Cut(view, io, budget.used)
        cut.drop(cut.exchanges)
        cut.forget(_outdated(view.entries, budget.limit // _USERS_SHARE))
        if not cut.rewrites or cut.left + most_tokens(tokens, io) > budget.used - least_freed(budget):
            return _without_note(view, budget, io) if budget.used > budget.limit else Cut(view, io, budget.used)
        note = await write_handoff(view, budget, io, tokens=tokens, trainable=self._settings.trainable)
        if note is None:
            return _without_note(view, budget, io)
        cut.say(note.text, note.call)
        return cut


def _without_note(view: View, budget: Budget, io: StrategyIO) -> Cut:
    cut = Cut(view, io, budget.used)
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
        if entry.summary or room < 0:
            outdated.append(entry)
    return outdated
