"""The context strategy `mask-then-summary`: old outputs are masked; a summary is made once that no longer suffices."""

from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Final

from pydantic import NonNegativeInt

from tumbler.contracts.context import Budget, LogEntry, Plan, Replace, State, StrategyCaps, Trigger, View
from tumbler.contracts.environment import Task
from tumbler.contracts.values import JSON, Message
from tumbler_agents.context.mask_observations import MaskObservations, MaskObservationsSettings, is_masked
from tumbler_agents.context.measuring import counter, freed_by
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
    """Masks at the threshold, at no cost but the cache; calls the model only where too little would be left to mask.

    What it masks it keeps, for the summary to be made of the outputs themselves.
    """

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
        return {**self._summary.start(task, rng), **self._mask.start(task, rng), "masked": {}}

    def threshold(self, state: State) -> float:
        """Return the share that was drawn."""
        return self._summary.threshold(state)

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        """Mask where that brings the prompt well below the threshold; else sum up what there is, unmasked."""
        if why == "turn_end":
            return Plan()
        texts = _texts(state)
        masked = await self._mask.plan(view, budget, state, why)
        if masked.edits and budget.used - freed_by(masked.edits, view) <= _AFTER * self.threshold(state) * budget.limit:
            state["masked"] = self._kept({**texts, **_contents(view, masked)}, view, budget)
            return masked
        originals = {each.id: _original(each, texts[str(each.id)]) for each in view.entries if _is_ours(each, texts)}
        return await self._summary.sum_up(view, budget, state, why, originals)

    def _kept(self, texts: Mapping[str, str], view: View, budget: Budget) -> dict[str, JSON]:
        """Return the newest of the texts that are in view, as many as the prompts for one summary can hold."""
        count, room, kept = counter(view), self._settings.calls * budget.limit, dict[str, JSON]()
        shown = {str(entry.id) for entry in view.entries}
        for entry, text in reversed(list(texts.items())):
            room -= count(text) if entry in shown else 0
            if entry in shown and room >= 0:
                kept[entry] = text
        return dict(reversed(kept.items()))


def _texts(state: State) -> dict[str, str]:
    texts = state["masked"]
    return {entry: str(text) for entry, text in texts.items()} if isinstance(texts, Mapping) else {}


def _contents(view: View, masked: Plan) -> Mapping[str, str]:
    """Return what the masks take the place of."""
    ids = {edit.id for edit in masked.edits if isinstance(edit, Replace)}
    return {str(entry.id): entry.message.content for entry in view.entries if entry.id in ids}


def _is_ours(entry: LogEntry, texts: Mapping[str, str]) -> bool:
    return str(entry.id) in texts and is_masked(entry)


def _original(entry: LogEntry, text: str) -> LogEntry:
    return replace(entry, message=Message(role=entry.message.role, content=text))
