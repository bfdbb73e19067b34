"""IPA's credit: the discounted return of each chunk (Eq. 7 of arXiv 2512.24873). Knows no tensor."""

from collections.abc import Sequence

from tumbler.trajectory.record import Trajectory
from tumbler_algorithms.ipa.settings import IPASettings
from tumbler_algorithms.parts.baselines import centre
from tumbler_algorithms.parts.rewards import chunk_rewards, final_reward

__all__ = ["chunk_credits"]


def chunk_credits(trajectories: Sequence[Trajectory], settings: IPASettings) -> list[list[float]]:
    """Return for each chunk of each trajectory of one group what it weighs.

    A chunk that RL trains has its return G_k. A replayed chunk has its weight in the imitation term, 0 if
    there is none. Other chunks, and all of a trajectory without a verdict, have 0; the latter does not count
    for the baseline either.
    """
    judged = [place for place, trajectory in enumerate(trajectories) if trajectory.judged]
    finals = centre([final_reward(trajectories[place], settings.failure_reward) for place in judged], settings.baseline)
    per_trajectory = [[0.0] * len(trajectory.chunks) for trajectory in trajectories]
    for place, final in zip(judged, finals, strict=True):
        trajectory = trajectories[place]
        returns = _returns(chunk_rewards(trajectory, final, settings.turn_rewards), settings.gamma)
        imitation = _imitation_weights(len(trajectory.chunks), settings)
        per_trajectory[place] = [
            weight if chunk.replayed else worth if chunk.trainable else 0.0
            for chunk, worth, weight in zip(trajectory.chunks, returns, imitation, strict=True)
        ]
    return per_trajectory


def _returns(rewards: Sequence[float], gamma: float) -> list[float]:
    """Return G_k = Σ_{i≥k} γ^{i-k} r_i, the final reward being part of the last chunk's.

    Without turn rewards this is Eq. 7, G_k = γ^{K-k} R. Chunks are counted over the whole trajectory, so
    that credit flows through a rewrite of the context from one segment to the one before it.
    """
    following = 0.0
    backwards: list[float] = []
    for reward in reversed(rewards):
        following = reward + gamma * following
        backwards.append(following)
    return backwards[::-1]


def _imitation_weights(chunks: int, settings: IPASettings) -> list[float]:
    """Return what each chunk of a trajectory weighs if it was replayed: 1, or γ^{K-k}."""
    if settings.imitation_weight == 0:
        return [0.0] * chunks
    if settings.imitation_credit == "uniform":
        return [1.0] * chunks
    return [settings.gamma ** (chunks - 1 - index) for index in range(chunks)]
