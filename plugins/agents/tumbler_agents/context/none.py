"""The context strategy `none`: the model sees the whole log."""

from random import Random

from tumbler.config import NoSettings
from tumbler.contracts.context import Budget, Plan, State, StrategyCaps, Trigger, View
from tumbler.contracts.environment import Task

__all__ = ["NoStrategy"]


class NoStrategy:
    """Edits nothing; the framework raises `ContextOverflowError` when the log no longer fits."""

    def __init__(self, settings: NoSettings) -> None:
        """Take no settings."""

    @property
    def caps(self) -> StrategyCaps:
        """Promise to keep every token prefix."""
        return StrategyCaps()

    def start(self, task: Task, rng: Random) -> State:
        """Return an empty state."""
        return {}

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        """Ask for no edit."""
        return Plan()
