"""What a trajectory and each of its chunks earned, before any group is looked at; knows no tensor."""

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

from tumbler.trajectory.record import Trajectory

__all__ = ["TurnRewards", "check_rewards", "chunk_rewards", "final_reward", "onto_trained", "total_reward"]

TurnRewards: TypeAlias = Literal["add", "only", "ignore"]
"""What becomes of rewards given within the episode: they add to the final one, are the only ones, or are ignored."""


def check_rewards(turn_rewards: TurnRewards, failure_reward: float | None, baseline: str = "none") -> None:
    """Refuse settings of a final reward that no chunk ever gets.

    Raises:
        ValueError: turn rewards are the only ones, and something is asked of the final one.
    """
    if turn_rewards == "only" and (failure_reward is not None or baseline != "none"):
        raise ValueError(
            f"failure_reward = {failure_reward} and baseline = {baseline!r} change the final reward, which "
            'turn_rewards = "only" leaves out: set turn_rewards = "add", or neither of the two'
        )


def final_reward(trajectory: Trajectory, failure_reward: float | None = None) -> float:
    """Return the verdict's reward, or `failure_reward`, unless None, for a failure: reward ≤ 0 or no success."""
    reward = trajectory.reward or 0.0
    failed = reward <= 0 or trajectory.success is False
    return failure_reward if failed and failure_reward is not None else reward


def chunk_rewards(trajectory: Trajectory, final: float, turn_rewards: TurnRewards) -> list[float]:
    """Return the reward that came right after each chunk; `final` is part of the last one's."""
    rewards = [0.0 if turn_rewards == "ignore" else chunk.reward for chunk in trajectory.chunks]
    if rewards and turn_rewards != "only":
        rewards[-1] += final
    return rewards


def total_reward(trajectory: Trajectory, final: float, turn_rewards: TurnRewards) -> float:
    """Return the sum of all rewards; of a trajectory without chunks, the final one if final ones count at all."""
    if not trajectory.chunks:
        return 0.0 if turn_rewards == "only" else final
    return math.fsum(chunk_rewards(trajectory, final, turn_rewards))


def onto_trained(trajectory: Trajectory, rewards: Sequence[float]) -> list[float]:
    """Return the rewards, those of chunks that RL may not train moved to the last trained chunk before.

    A token batch knows trained chunks alone, so that a reward left on another one would be lost. Rewards
    before the first trained chunk are dropped: nothing that is trained brought them about.
    """
    moved = [0.0] * len(rewards)
    target: int | None = None
    for index, (chunk, reward) in enumerate(zip(trajectory.chunks, rewards, strict=True)):
        if chunk.trainable and not chunk.replayed:
            target = index
        if target is not None:
            moved[target] += reward
    return moved
