"""Settings of REINFORCE; RLOO and REINFORCE++ are combinations of them."""

from typing import Literal, TypeAlias

from tumbler_algorithms.parts.objective import ObjectiveSettings
from tumbler_algorithms.parts.rewards import TurnRewards

__all__ = ["REINFORCEBaseline", "REINFORCESettings", "Whitening"]

REINFORCEBaseline: TypeAlias = Literal["none", "group-mean", "leave-one-out", "batch-mean"]
Whitening: TypeAlias = Literal["none", "trajectories", "tokens"]


class REINFORCESettings(ObjectiveSettings):
    """How REINFORCE samples, credits and updates.

    RLOO (arXiv 2402.14740) is `baseline = "leave-one-out"`. REINFORCE++ (arXiv 2501.03262) is
    `whiten = "tokens"`, with `group_size = 1` or, as its variant for groups, with `baseline = "group-mean"`.
    """

    baseline: REINFORCEBaseline = "none"
    """What is taken from a trajectory's return: nothing, the mean of its group, the mean of the others of its
    group, or the mean of all trajectories of the step."""

    whiten: Whitening = "none"
    """Over what returns are brought to mean 0 and deviation 1, after the baseline: nothing, the trajectories
    of the step, or its trained tokens."""

    turn_rewards: TurnRewards = "ignore"
    """What becomes of rewards that the environment gives within the episode: they `add` to the final reward,
    are the `only` reward, or are ignored."""
