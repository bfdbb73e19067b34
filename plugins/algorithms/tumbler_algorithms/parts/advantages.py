"""Advantages of whole trajectories within their group; knows no tensor."""

from collections.abc import Callable, Sequence

from tumbler.trajectory.record import Trajectory
from tumbler_algorithms.parts.baselines import Baseline, centre
from tumbler_algorithms.parts.groups import alike
from tumbler_algorithms.parts.rewards import final_reward

__all__ = ["group_advantages"]


def group_advantages(
    trajectories: Sequence[Trajectory], baseline: Baseline, reward: Callable[[Trajectory], float] = final_reward
) -> list[list[float]]:
    """Return each trajectory's reward less the baseline for each chunk that RL may train, else 0.

    Trajectories without a verdict get 0 and do not count for the baseline.
    """
    advantages = iter(centre([reward(each) for each in trajectories if each.judged], baseline))
    return [alike(each, next(advantages) if each.judged else 0.0) for each in trajectories]
