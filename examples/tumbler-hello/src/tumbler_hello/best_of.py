"""The algorithm `best-of`: the best rollouts of each group get a credit of 1, the others none."""

from collections.abc import Sequence

from pydantic import Field, PositiveInt
from tumbler.config import Settings
from tumbler.contracts.algorithm import Group, PlannedGroup, PlanState, RolloutPlan, UpdateRule
from tumbler.contracts.batch import LossOutput, TokenBatch
from tumbler.contracts.environment import Task

__all__ = ["BestOf", "BestOfSettings"]


class BestOfSettings(Settings):
    """How much is rolled out in each step."""

    tasks_per_step: PositiveInt = 8
    """Tasks in each step."""

    group_size: int = Field(default=8, ge=2)
    """Rollouts of each task, compared with each other."""


class BestOf:
    """Imitates the best of each group; it holds no state between steps."""

    def __init__(self, settings: BestOfSettings) -> None:
        """Keep the settings."""
        self._settings = settings

    @property
    def update_rule(self) -> UpdateRule:
        """Take one optimizer step for each batch."""
        return UpdateRule()

    @property
    def tasks_per_step(self) -> int:
        """Return how many tasks `plan` wants to be offered."""
        return self._settings.tasks_per_step

    @property
    def wants_experts(self) -> bool:
        """Start every rollout at the beginning."""
        return False

    def plan(self, tasks: Sequence[Task], state: PlanState) -> RolloutPlan:
        """Return one group for each task."""
        return RolloutPlan(groups=tuple(PlannedGroup(task=task, size=self._settings.group_size) for task in tasks))

    def credit(self, group: Group) -> list[list[float]]:
        """Return 1 for each chunk of the trajectories with the best reward; 0 for all if none is better."""
        rewards = [each.reward or 0.0 for each in group.trajectories]
        best = max(rewards, default=0.0)
        differ = min(rewards, default=0.0) < best
        return [
            [float(differ and reward == best)] * len(each.chunks)
            for reward, each in zip(rewards, group.trajectories, strict=True)
        ]

    def loss(self, batch: TokenBatch) -> LossOutput:
        """Return Σ -credit · log π over the tokens of chunks, and the number of those tokens."""
        # Chosen by index, not masked by 0: what stands at other positions may be anything, NaN too.
        inside = batch.chunk_of_token >= 0
        credit = batch.chunk_credit[batch.chunk_of_token[inside]]
        total = -(batch.policy_logprobs[inside] * credit).sum()
        return LossOutput(total=total, denominator=float(inside.sum()))
