"""Settings of TIS."""

from pydantic import PositiveFloat

from tumbler_algorithms.parts.baselines import Baseline
from tumbler_algorithms.parts.objective import ObjectiveSettings, RatioLevel

__all__ = ["TISSettings"]


class TISSettings(ObjectiveSettings):
    """How TIS samples, credits and updates."""

    baseline: Baseline = "whiten"
    """What is taken from a trajectory's reward: nothing, the mean of its group, the mean of the others of its
    group, or the mean and then division by the standard deviation."""

    failure_reward: float | None = None
    """Reward of a trajectory that failed (reward ≤ 0, or no success); None keeps the environment's own."""

    ratio_level: RatioLevel = "token"
    """What one importance weight belongs to: a token, a chunk or a trajectory, as a geometric mean."""

    cap: PositiveFloat = 1.0
    """What the importance weight is truncated to."""
