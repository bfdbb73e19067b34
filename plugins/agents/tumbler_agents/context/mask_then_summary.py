"""The context strategy `mask-then-summary`: old outputs are masked; a summary is made once that no longer suffices."""

from random import Random
from typing import Final

from pydantic import NonNegativeInt

from tumbler.contracts.context import Budget, Plan, State, StrategyCaps, Trigger, View
from tumbler.contracts.environment import Task
from tumbler_agents.context.mask_observations import MaskObservations, MaskObservationsSettings
from tumbler_agents.context.measuring import freed_by
from tumbler_agents.context.summary import SummarySettings, SummaryStrategy

__all__ = ["MaskThenSummary", "MaskThenSummarySettings"]

_AFTER: Final = 0.75
"""Part of the threshold that masking must leave at most, so that the next rewrite is some turns away."""


class MaskThenSummarySettings(SummarySettings):
    """When outputs are masked and when the conversation is summed up, and how."""

    keep_outputs: NonNegativeInt = 5
    """How many of the newest exchanges keep their outputs when the others are masked."""

    exclude: tuple[str, ...] = ()
    """Names of tools, or patterns such as "todo*", whose outputs are never masked."""


class MaskThenSummary:
    """Masks at the threshold, at no cost but the cache; calls the model only where too little would be left to mask."""

    def __init__(self, settings: MaskThenSummarySettings) -> None:
        """Build both strategies."""
        masking = MaskObservationsSettings(keep=settings.keep_outputs, poll=1, exclude=settings.exclude)
        self._settings = settings
        self._mask = MaskObservations(masking)
        self._summary = SummaryStrategy(settings)

    @property
    def caps(self) -> StrategyCaps:
        """Promise what `summary` does."""
        return self._summary.caps

    def start(self, task: Task, rng: Random) -> State:
        """Draw the threshold; nothing is masked."""
        return {**self._summary.start(task, rng), **self._mask.start(task, rng)}

    def threshold(self, state: State) -> float:
        """Return the share that was drawn."""
        return self._summary.threshold(state)

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        """Mask where that brings the prompt well below the threshold; else sum up what there is."""
        if why == "turn_end":
            return Plan()
        masked = await self._mask.plan(view, budget, state, why)
        if masked.edits and budget.used - freed_by(masked.edits, view) <= _AFTER * self.threshold(state) * budget.limit:
            return masked
        return await self._summary.plan(view, budget, state, why)
