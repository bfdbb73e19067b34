"""The context strategy `keep-last`: the model sees the task and the last exchanges."""

from random import Random

from pydantic import PositiveInt
from tumbler.config import Settings
from tumbler.contracts.context import Budget, Drop, Plan, State, StrategyCaps, Trigger, View
from tumbler.contracts.environment import Task

__all__ = ["KeepLast", "KeepLastSettings"]


class KeepLastSettings(Settings):
    """How much is kept."""

    exchanges: PositiveInt = 4
    """Exchanges to show: a reply of the policy and what it was answered."""


class KeepLast:
    """Drops what is older than the last exchanges; system message and task are pinned and stay."""

    def __init__(self, settings: KeepLastSettings) -> None:
        """Keep the settings."""
        self._settings = settings

    @property
    def caps(self) -> StrategyCaps:
        """Say that old turns vanish one by one, so that every turn rewrites the conversation."""
        return StrategyCaps(rewrites="every_turn")

    def start(self, task: Task, rng: Random) -> State:
        """Remember nothing."""
        return {}

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        """Drop everything before the reply that opens the last exchanges."""
        free = [entry for entry in view.entries if not entry.pinned]
        replies = [index for index, entry in enumerate(free) if entry.message.role == "assistant"]
        if len(replies) <= self._settings.exchanges:
            return Plan()
        first = replies[-self._settings.exchanges]
        return Plan(edits=[Drop(ids=tuple(entry.id for entry in free[:first]))])
