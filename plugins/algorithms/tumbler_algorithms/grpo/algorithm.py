"""GRPO's plan and group-relative advantage (arXiv 2402.03300, 4.1). Imports no torch; the loss is in `loss`."""

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tumbler.contracts.algorithm import Group, PlannedGroup, PlanState, RolloutPlan, UpdateRule
from tumbler.contracts.environment import Task
from tumbler_algorithms.grpo.settings import GRPOSettings

if TYPE_CHECKING:
    from tumbler.contracts.batch import LossOutput, TokenBatch

__all__ = ["GRPO"]

_EPSILON = 1e-6
"""Keeps rewards that differ by rounding alone from being blown up to ±1."""


class GRPO:
    """Group-relative policy optimisation: a trajectory is worth what it is better than its group."""

    def __init__(self, settings: GRPOSettings) -> None:
        """Keep the settings; there is no other state."""
        self._settings = settings

    @property
    def update_rule(self) -> UpdateRule:
        """Say how a batch becomes optimizer steps."""
        return UpdateRule(
            old_policy=self._settings.old_policy,
            epochs=self._settings.epochs,
            minibatches=self._settings.minibatches,
        )

    @property
    def tasks_per_step(self) -> int:
        """Return how many tasks `plan` wants to be offered."""
        return self._settings.tasks_per_step

    @property
    def wants_experts(self) -> bool:
        """Say that every rollout starts at the beginning."""
        return False

    def plan(self, tasks: Sequence[Task], state: PlanState) -> RolloutPlan:
        """Return one group for each task."""
        return RolloutPlan(groups=tuple(PlannedGroup(task=task, size=self._settings.group_size) for task in tasks))

    def credit(self, group: Group) -> list[list[float]]:
        """Return each trajectory's advantage for each of its chunks that RL may train, else 0.

        Trajectories without a verdict get 0 and do not count for mean and deviation.
        """
        advantages = iter(self._advantages([each.reward or 0.0 for each in group.trajectories if each.judged]))
        per_trajectory: list[list[float]] = []
        for trajectory in group.trajectories:
            advantage = next(advantages) if trajectory.judged else 0.0
            per_trajectory.append(
                [advantage if chunk.trainable and not chunk.replayed else 0.0 for chunk in trajectory.chunks]
            )
        return per_trajectory

    def _advantages(self, rewards: list[float]) -> list[float]:
        """Return Â = (R - mean) / std, std being that of a sample (n - 1); exactly 0 where all are equal."""
        if len(rewards) < 2 or min(rewards) == max(rewards):
            return [0.0] * len(rewards)
        mean = math.fsum(rewards) / len(rewards)
        scale = statistics.stdev(rewards) + _EPSILON if self._settings.divide_by_std else 1.0
        return [(reward - mean) / scale for reward in rewards]

    def loss(self, batch: "TokenBatch") -> "LossOutput":
        """Return the clipped token-level loss of one micro-batch."""
        from tumbler_algorithms.grpo.loss import grpo_loss

        return grpo_loss(batch, self._settings)
