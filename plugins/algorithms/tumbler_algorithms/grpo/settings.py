"""Settings of GRPO; Dr. GRPO and DAPO are combinations of them."""

from typing import Self

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from tumbler_algorithms.parts.objective import Normalisation, ObjectiveSettings, RatioLevel

__all__ = ["GRPOSettings"]


class GRPOSettings(ObjectiveSettings):
    """How GRPO samples, credits and updates.

    Dr. GRPO (arXiv 2503.20783) is `divide_by_std = false` with `normalisation = "constant"`. DAPO (arXiv
    2503.14476) is `clip_high = 0.28`, `normalisation = "token-mean"`, `dynamic_sampling = true` and a
    `length_limit` with its `length_buffer`.
    """

    group_size: int = Field(default=8, ge=2)
    """Rollouts of each task, compared with each other."""

    divide_by_std: bool = True
    """Whether the advantage is divided by the standard deviation of the group's rewards."""

    length_limit: PositiveInt | None = None
    """Sampled tokens of a trajectory from which on the whole length penalty of 1 is taken from its reward
    (DAPO, Eq. 13); None takes none."""

    length_buffer: PositiveInt | None = None
    """Tokens before `length_limit` over which the penalty grows from 0 to 1; None exactly when that is None."""

    dynamic_sampling: bool = False
    """Whether a group whose rewards are all equal is replaced by one of another task (DAPO, 3.2)."""

    ratio_level: RatioLevel = "token"
    """What one ratio and its clip belong to: a token, a chunk or a trajectory, as a geometric mean."""

    clip_low: float = Field(default=0.2, ge=0.0, le=1.0)
    """How far below 1 a ratio may fall before a push downwards stops."""

    clip_high: NonNegativeFloat = 0.2
    """How far above 1 a ratio may rise before a push upwards stops."""

    dual_clip: float | None = Field(default=None, gt=1.0)
    """Ratio above which a negative advantage pushes no more; None lets it push on."""

    normalisation: Normalisation = "trajectory-mean"
    """What the loss is averaged over: trajectories (`sum`), chunks after a mean over each one's tokens,
    trajectories after a mean over each one's tokens, all tokens alike, or trajectories after division by one
    constant length. Masked tokens never count."""

    @model_validator(mode="after")
    def _buffer_fits_limit(self) -> Self:
        limit, buffer = self.length_limit, self.length_buffer
        if (limit is None) != (buffer is None) or (limit is not None and buffer is not None and buffer > limit):
            raise ValueError(
                "length_limit and length_buffer go together, the buffer no longer than the limit: "
                f"found length_limit = {limit} and length_buffer = {buffer}"
            )
        return self
