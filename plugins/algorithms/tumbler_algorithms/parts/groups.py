"""Plans and credits that many algorithms share; knows no tensor."""

from collections.abc import Sequence

from tumbler.contracts.algorithm import PlannedGroup, RolloutPlan
from tumbler.contracts.environment import Task
from tumbler.trajectory.record import Trajectory

__all__ = ["alike", "plan_from_start"]


def plan_from_start(tasks: Sequence[Task], size: int) -> RolloutPlan:
    """Return one group of `size` rollouts for each task, all from its beginning."""
    return RolloutPlan(groups=tuple(PlannedGroup(task=task, size=size) for task in tasks))


def alike(trajectory: Trajectory, credit: float) -> list[float]:
    """Return the same credit for each chunk that RL may train, and 0 for the others."""
    return [credit if chunk.trainable and not chunk.replayed else 0.0 for chunk in trajectory.chunks]
