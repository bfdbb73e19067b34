"""What algorithms that start every rollout at the beginning answer alike; knows neither credit nor loss."""

from collections.abc import Sequence
from typing import Generic, TypeVar

from tumbler.contracts.algorithm import PlanState, RolloutPlan, UpdateRule
from tumbler.contracts.environment import Task
from tumbler_algorithms.parts.groups import plan_from_start
from tumbler_algorithms.parts.objective import ObjectiveSettings

__all__ = ["FromStart"]

SettingsT = TypeVar("SettingsT", bound=ObjectiveSettings)


class FromStart(Generic[SettingsT]):
    """One group of each task, from its beginning. Subclass it with `credit` and `loss`."""

    reads_values = False
    """Whether the loss reads a value head. Override it with True if so."""

    def __init__(self, settings: SettingsT) -> None:
        """Keep the settings; there is no other state."""
        self._settings = settings

    @property
    def update_rule(self) -> UpdateRule:
        """Say how a batch becomes optimizer steps."""
        return self._settings.update_rule(
            reference=self._settings.needs_reference,
            entropy=self._settings.needs_entropy,
            values=self.reads_values,
        )

    @property
    def tasks_per_step(self) -> int:
        """Return how many tasks `plan` wants to be offered."""
        return self._settings.tasks_per_step

    @property
    def wants_experts(self) -> bool:
        """Say that no rollout starts from an expert."""
        return False

    def plan(self, tasks: Sequence[Task], state: PlanState) -> RolloutPlan:
        """Return one group for each task."""
        return plan_from_start(tasks, self._settings.group_size)
