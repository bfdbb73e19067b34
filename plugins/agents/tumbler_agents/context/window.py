"""The context strategy `window`: the first and the newest exchanges stay, those in the middle go."""

from collections.abc import Sequence
from random import Random
from typing import Final

from pydantic import NonNegativeInt, PositiveInt

from tumbler.config import Settings
from tumbler.contracts.context import Budget, Exchange, Plan, State, StrategyCaps, Trigger, View
from tumbler.contracts.environment import Task
from tumbler_agents.context.cutting import Cut, settle
from tumbler_agents.context.remembered import read_count, read_share
from tumbler_agents.context.shares import ShareOrRange, draw_share
from tumbler_agents.context.worth import is_due, least_freed

__all__ = ["Window", "WindowSettings"]

_AFTER: Final = 0.75
"""Part of the threshold that a cut leaves at most, so that the next one is some turns away."""


class WindowSettings(Settings):
    """What stays, and when the rest goes."""

    keep_first: NonNegativeInt = 1
    """How many of the conversation's first exchanges stay."""

    keep_last: PositiveInt = 8
    """How many of the newest exchanges stay, where they fit."""

    threshold: ShareOrRange = 0.8
    """Cut once this share of the context is used; a range such as [0.6, 0.9] is drawn from for each group of
    rollouts."""


class Window:
    """Drops whole exchanges and leaves a short note of how many; it bounds every conversation.

    Where the kept ones are too long themselves, fewer stay; at last new outputs and what users said in between are
    shortened. Pinned messages and exchanges with unanswered calls always stay, and so does an answer that no prompt
    has held, wherever its call was made, as long as there is room for it.
    """

    def __init__(self, settings: WindowSettings) -> None:
        """Keep the settings."""
        self._settings = settings

    @property
    def caps(self) -> StrategyCaps:
        """Promise to bound the prompt, with rare rewrites."""
        return StrategyCaps(bounded=True, rewrites="batched")

    def start(self, task: Task, rng: Random) -> State:
        """Draw the threshold."""
        return {"threshold": draw_share(self._settings.threshold, rng), "in_a_row": 0}

    def threshold(self, state: State) -> float:
        """Return the share that was drawn."""
        return read_share(state, "threshold")

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        """Cut where the threshold is passed or somebody asks for it."""
        in_a_row, state["in_a_row"] = read_count(state, "in_a_row"), 0
        if not is_due(budget, why, self.threshold(state), in_a_row):
            return Plan()
        first, middle, last = self._split(view)
        cut = Cut(view, budget.used)
        cut.drop(middle)
        cut.shed(last[:-1], min(int(_AFTER * self.threshold(state) * budget.limit), budget.used - least_freed(budget)))
        cut.shed(reversed(first), budget.limit)
        return settle(cut, budget, state, in_a_row)

    def _split(self, view: View) -> tuple[Sequence[Exchange], Sequence[Exchange], Sequence[Exchange]]:
        """Return the first exchanges, those of the middle, and the newest ones."""
        exchanges = view.exchanges()
        gap = next((entry.id for entry in view.entries if entry.summary), None)
        order = {entry.id: index for index, entry in enumerate(view.entries)}
        before_gap = [each for each in exchanges if gap is None or order[each.ids[0]] < order[gap]]
        end = max(0, len(exchanges) - self._settings.keep_last)
        start = min(len(before_gap), self._settings.keep_first, end)
        return exchanges[:start], exchanges[start:end], exchanges[end:]
