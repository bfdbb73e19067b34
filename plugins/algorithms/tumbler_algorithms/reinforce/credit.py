"""REINFORCE's advantages: returns less a baseline, whitened over the whole step. Knows no tensor."""

import math
from collections.abc import Sequence

from tumbler.contracts.algorithm import Group
from tumbler.trajectory.record import Trajectory
from tumbler_algorithms.parts.baselines import EPSILON, Baseline, centre
from tumbler_algorithms.parts.groups import alike
from tumbler_algorithms.parts.rewards import final_reward, total_reward
from tumbler_algorithms.reinforce.settings import REINFORCEBaseline, REINFORCESettings, Whitening

__all__ = ["batch_credits"]

_WITHIN_GROUP: dict[REINFORCEBaseline, Baseline] = {
    "none": "none",
    "group-mean": "mean",
    "leave-one-out": "leave-one-out",
    "batch-mean": "none",
}


def batch_credits(groups: Sequence[Group], settings: REINFORCESettings) -> list[list[list[float]]]:
    """Return the advantage of each chunk of each trajectory of each group.

    Chunks that RL may not train and all chunks of trajectories without a verdict have advantage 0; the
    latter count for no mean.
    """
    judged = [[each for each in group.trajectories if each.judged] for group in groups]
    advantages: list[float] = []
    for trajectories in judged:
        returns = [_return(each, settings) for each in trajectories]
        advantages.extend(centre(returns, _WITHIN_GROUP[settings.baseline]))
    if settings.baseline == "batch-mean":
        advantages = centre(advantages, "mean")
    weights = [_weight(each, settings.whiten) for trajectories in judged for each in trajectories]
    rest = iter(advantages if settings.whiten == "none" else _whitened(advantages, weights))
    return [[alike(each, next(rest) if each.judged else 0.0) for each in group.trajectories] for group in groups]


def _return(trajectory: Trajectory, settings: REINFORCESettings) -> float:
    return total_reward(trajectory, final_reward(trajectory), settings.turn_rewards)


def _weight(trajectory: Trajectory, whiten: Whitening) -> int:
    """Return how often the trajectory counts for the step's mean and deviation."""
    if whiten == "trajectories":
        return 1
    return sum(chunk.end - chunk.start for chunk in trajectory.chunks if chunk.trainable and not chunk.replayed)


def _whitened(advantages: Sequence[float], weights: Sequence[int]) -> list[float]:
    """Return the advantages at mean 0 and deviation 1 (arXiv 2501.03262, Eq. 10); exactly 0 where all are equal."""
    counted = [advantage for advantage, weight in zip(advantages, weights, strict=True) if weight]
    if len(counted) < 2 or min(counted) == max(counted):
        return [0.0] * len(advantages)
    total = sum(weights)
    pairs = list(zip(advantages, weights, strict=True))
    mean = math.fsum(weight * advantage for advantage, weight in pairs) / total
    variance = math.fsum(weight * (advantage - mean) ** 2 for advantage, weight in pairs) / total
    return [(advantage - mean) / (math.sqrt(variance) + EPSILON) for advantage in advantages]
