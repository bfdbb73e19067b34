"""Settings of trajectory-level IPA; they bear the names of IPA's."""

from pydantic import Field

from tumbler_algorithms.parts.baselines import Baseline
from tumbler_algorithms.parts.objective import Normalisation, ObjectiveSettings

__all__ = ["TrajectoryIPASettings"]


class TrajectoryIPASettings(ObjectiveSettings):
    """How trajectory-level IPA samples, credits and updates."""

    failure_reward: float | None = Field(default=None, le=0.0)
    """Final reward of a trajectory that failed (reward ≤ 0, or no success), such as -0.2 or -1.

    None keeps the environment's own. Where that is 0 failures then train nothing."""

    baseline: Baseline = "none"
    """What is taken from the final reward, over the judged trajectories of the group: nothing, their mean, the
    mean of the others, or the mean and then division by the standard deviation."""

    mismatch_threshold: float = Field(default=2.0, ge=1.0)
    """H: a token is masked when the training engine finds it likelier than the inference engine did by more
    than this factor."""

    normalisation: Normalisation = "sum"
    """What the loss is averaged over: trajectories (`sum`), chunks after a mean over each one's tokens,
    trajectories after a mean over each one's tokens, all tokens alike, or trajectories after division by one
    constant length. Masked tokens never count."""
