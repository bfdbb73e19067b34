"""The context strategy `mask-observations`: a placeholder in place of old outputs; the policy's words all stay."""

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from random import Random
from typing import Final

from pydantic import NonNegativeInt, PositiveInt

from tumbler.config import Settings
from tumbler.contracts.context import Budget, Exchange, Plan, Replace, State, StrategyCaps, StrategyIO, Trigger, View
from tumbler.contracts.environment import Task
from tumbler_agents.context.excerpt import split_frame
from tumbler_agents.context.observations import is_observation, tool_names
from tumbler_agents.context.worth import least_freed

__all__ = ["MaskObservations", "MaskObservationsSettings"]

_PLACEHOLDER: Final = re.compile(r"\[old output(?: of [^\n]{1,64})? left out: \d+ tokens\]")


class MaskObservationsSettings(Settings):
    """Which outputs are masked, and how many at once."""

    keep: NonNegativeInt = 5
    """How many of the newest exchanges keep their outputs."""

    poll: PositiveInt = 5
    """Outputs are masked only when there are at least this many, so that the prompt's cache is rarely lost; when the
    prompt does not fit, any number will do."""

    exclude: tuple[str, ...] = ()
    """Names of tools, or patterns such as "todo*", whose outputs are never masked."""


class MaskObservations:
    """Masks in batches. It does not bound the prompt: replies, users' messages and the newest outputs stay."""

    def __init__(self, settings: MaskObservationsSettings) -> None:
        """Keep the settings."""
        self._settings = settings

    @property
    def caps(self) -> StrategyCaps:
        """Promise to rewrite in batches."""
        return StrategyCaps(rewrites="batched")

    def start(self, task: Task, rng: Random) -> State:
        """Return an empty state: what is masked can be seen in the view."""
        return {}

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        """Mask the old outputs once there are enough of them and it frees enough."""
        if view.io is None:
            return Plan()
        exchanges = view.exchanges()
        old = exchanges[: max(0, len(exchanges) - self._settings.keep)]
        found = list(self._masks(old, view.io))
        freed = sum(saved for _, saved in found)
        if freed < least_freed(budget) or (len(found) < self._settings.poll and budget.used <= budget.limit):
            return Plan()
        return Plan(edits=[edit for edit, _ in found])

    def _masks(self, exchanges: Sequence[Exchange], io: StrategyIO) -> Iterator[tuple[Replace, int]]:
        """Return what can be masked, and how many tokens each saves."""
        for exchange in exchanges:
            names = {} if exchange.open else tool_names(exchange)
            for entry in exchange.entries:
                if exchange.open or not is_observation(entry) or self._excluded(names.get(entry.id)):
                    continue
                opening, body, closing = split_frame(entry.message.content)
                if _PLACEHOLDER.fullmatch(body):
                    continue
                mask = f"{opening}{_describe(names.get(entry.id), io.count(body))}{closing}"
                saved = io.count(entry.message.content) - io.count(mask)
                if saved > 0:
                    yield Replace(id=entry.id, content=mask, reason="old output"), saved

    def _excluded(self, tool: str | None) -> bool:
        return tool is not None and any(fnmatchcase(tool, pattern) for pattern in self._settings.exclude)


def _describe(tool: str | None, tokens: int) -> str:
    # A name that the policy made up may be anything; the placeholder must stay short and on one line.
    plain = tool if tool is not None and re.fullmatch(r"[\w.:/-]{1,64}", tool) else None
    return f"[old output of {plain} left out: {tokens} tokens]" if plain else f"[old output left out: {tokens} tokens]"
