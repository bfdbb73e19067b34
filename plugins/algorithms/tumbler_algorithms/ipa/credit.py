"""IPA's credit: the discounted return of each chunk (Eq. 7 of arXiv 2512.24873). Knows no tensor."""

import math
import statistics
from collections.abc import Sequence

from tumbler.trajectory.record import Trajectory
from tumbler_algorithms.ipa.settings import Baseline, IPASettings

__all__ = ["chunk_credits"]

_EPSILON = 1e-6
"""Keeps rewards that differ by rounding alone from being blown up to ±1."""


def chunk_credits(trajectories: Sequence[Trajectory], settings: IPASettings) -> list[list[float]]:
    """Return G_k for each chunk of each trajectory of one group.

    Chunks that RL may not train, replayed ones among them, and all chunks of trajectories without a
    verdict have credit 0; the latter do not count for the baseline either.
    """
    judged = [place for place, trajectory in enumerate(trajectories) if trajectory.judged]
    rewards = _centred([_final_reward(trajectories[place], settings) for place in judged], settings.baseline)
    per_trajectory = [[0.0] * len(trajectory.chunks) for trajectory in trajectories]
    for place, reward in zip(judged, rewards, strict=True):
        per_trajectory[place] = _returns(trajectories[place], reward, settings)
    return per_trajectory


def _final_reward(trajectory: Trajectory, settings: IPASettings) -> float:
    reward = trajectory.reward or 0.0
    failed = reward <= 0 or trajectory.success is False
    return settings.failure_reward if failed and settings.failure_reward is not None else reward


def _centred(rewards: list[float], baseline: Baseline) -> list[float]:
    """Return the rewards less the baseline; where all are equal, or one is alone, exactly 0."""
    if baseline == "none":
        return rewards
    if len(rewards) < 2 or min(rewards) == max(rewards):
        return [0.0] * len(rewards)
    total, count = math.fsum(rewards), len(rewards)
    if baseline == "leave-one-out":
        return [reward - (total - reward) / (count - 1) for reward in rewards]
    scale = statistics.stdev(rewards) + _EPSILON if baseline == "whiten" else 1.0
    return [(reward - total / count) / scale for reward in rewards]


def _returns(trajectory: Trajectory, final: float, settings: IPASettings) -> list[float]:
    """Return G_k = Σ_{i≥k} γ^{i-k} r_i, the final reward being part of the last chunk's.

    Without turn rewards this is Eq. 7, G_k = γ^{K-k} R. Chunks are counted over the whole trajectory, so
    that credit flows through a rewrite of the context from one segment to the one before it.
    """
    following = 0.0 if settings.turn_rewards == "only" else final
    backwards: list[float] = []
    for index, chunk in reversed(list(enumerate(trajectory.chunks))):
        discount = 1.0 if index == len(trajectory.chunks) - 1 else settings.gamma
        following = discount * following + (0.0 if settings.turn_rewards == "ignore" else chunk.reward)
        backwards.append(following if chunk.trainable and not chunk.replayed else 0.0)
    return backwards[::-1]
