"""Settings of TOPR."""

from typing import Literal

from tumbler_algorithms.parts.baselines import Baseline
from tumbler_algorithms.parts.objective import ObjectiveSettings

__all__ = ["TOPRSettings"]


class TOPRSettings(ObjectiveSettings):
    """How TOPR samples, credits and updates."""

    failure_reward: float | None = -1.0
    """Reward of a trajectory that failed (reward ≤ 0, or no success); None keeps the environment's own. With 0
    failures would train nothing, and TOPR would be supervised training on its own successes."""

    baseline: Baseline = "none"
    """What is taken from a trajectory's reward: nothing, the mean of its group, the mean of the others of its
    group, or the mean and then division by the standard deviation. What is left decides by its sign whether
    a trajectory counts as good or bad."""

    ratio: Literal["product", "geometric-mean"] = "product"
    """The ratio of a bad trajectory: the paper's π_θ/π_old of all its trained tokens, or its root by their
    number, which stays near 1 for long trajectories."""
