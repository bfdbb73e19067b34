"""Settings of GSPO."""

from typing import Literal

from pydantic import Field, NonNegativeFloat

from tumbler_algorithms.parts.objective import Normalisation, ObjectiveSettings

__all__ = ["GSPOSettings"]


class GSPOSettings(ObjectiveSettings):
    """How GSPO samples, credits and updates. The bounds of the clip are those of the paper, 5.1."""

    group_size: int = Field(default=8, ge=2)
    """Rollouts of each task, compared with each other."""

    divide_by_std: bool = True
    """Whether the advantage is divided by the standard deviation of the group's rewards."""

    variant: Literal["sequence", "token"] = "sequence"
    """`sequence` is GSPO; `token` is GSPO-token, whose ratio has the same value but pushes each token by the
    advantage of its own chunk, where `sequence` pushes all tokens by their mean."""

    clip_low: float = Field(default=3e-4, ge=0.0, le=1.0)
    """How far below 1 a trajectory's ratio may fall before a push downwards stops."""

    clip_high: NonNegativeFloat = 4e-4
    """How far above 1 a trajectory's ratio may rise before a push upwards stops."""

    dual_clip: float | None = Field(default=None, gt=1.0)
    """Ratio above which a negative advantage pushes no more; None lets it push on."""

    normalisation: Normalisation = "trajectory-mean"
    """What the loss is averaged over: trajectories (`sum`), chunks after a mean over each one's tokens,
    trajectories after a mean over each one's tokens (the paper), all tokens alike, or trajectories after
    division by one constant length. Masked tokens never count."""
