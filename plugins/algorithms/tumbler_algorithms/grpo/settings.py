"""Settings of GRPO; Dr. GRPO and DAPO are combinations of them."""

from typing import Literal, Self, TypeAlias

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from tumbler.config import Settings
from tumbler.contracts.batch import OldPolicySource

__all__ = ["GRPOSettings", "Normalisation"]

Normalisation: TypeAlias = Literal["trajectory-mean", "token-mean", "constant"]


class GRPOSettings(Settings):
    """How GRPO samples, credits and updates.

    Dr. GRPO (arXiv 2503.20783) is `divide_by_std = false` with `normalisation = "constant"`; DAPO's loss
    (arXiv 2503.14476) is `clip_high = 0.28` with `normalisation = "token-mean"`.
    """

    tasks_per_step: PositiveInt = 8
    """Tasks that each step rolls out."""

    group_size: int = Field(default=8, ge=2)
    """Rollouts of each task, compared with each other."""

    divide_by_std: bool = True
    """Whether the advantage is divided by the standard deviation of the group's rewards."""

    clip_low: float = Field(default=0.2, ge=0.0, le=1.0)
    """How far below 1 a token's ratio may fall before a push downwards stops."""

    clip_high: NonNegativeFloat = 0.2
    """How far above 1 a token's ratio may rise before a push upwards stops."""

    normalisation: Normalisation = "trajectory-mean"
    """What the loss is averaged over: trajectories after a mean over each one's tokens, all tokens alike, or
    trajectories after division by one constant length."""

    constant_length: PositiveInt | None = None
    """Tokens that stand for every trajectory's length with `normalisation = "constant"`; None otherwise."""

    kl_weight: NonNegativeFloat = 0.0
    """Weight of a penalty on the divergence from the policy that sampled; 0 leaves it out."""

    old_policy: OldPolicySource = "recompute"
    """Where the log-probabilities of the policy that sampled come from."""

    epochs: PositiveInt = 1
    """Passes over a step's trajectories."""

    minibatches: PositiveInt = 1
    """Optimizer steps in one pass."""

    @model_validator(mode="after")
    def _length_fits_normalisation(self) -> Self:
        if (self.normalisation == "constant") != (self.constant_length is not None):
            raise ValueError(
                'constant_length goes with normalisation = "constant" and with nothing else: '
                f"found normalisation = {self.normalisation!r} and constant_length = {self.constant_length}"
            )
        return self
