"""Settings of GiGPO."""

from typing import Literal, TypeAlias

from pydantic import Field, NonNegativeFloat

from tumbler_algorithms.parts.objective import Normalisation, ObjectiveSettings
from tumbler_algorithms.parts.rewards import TurnRewards

__all__ = ["GiGPOSettings", "State"]

State: TypeAlias = Literal["turn", "observation", "history"]


class GiGPOSettings(ObjectiveSettings):
    """How GiGPO samples, credits and updates."""

    group_size: int = Field(default=8, ge=2)
    """Rollouts of each task, compared with each other."""

    divide_by_std: bool = True
    """Whether both advantages are divided by the standard deviation of what they compare."""

    step_weight: NonNegativeFloat = 1.0
    """ω: weight of the advantage among equal states beside that among episodes; 0 leaves GRPO."""

    gamma: float = Field(default=0.95, gt=0.0, le=1.0)
    """Discount for each chunk, in the returns that are compared among equal states."""

    state: State = "turn"
    """What makes two states equal: that the agent made the same call last and was shown the same in answer; that it
    was shown the same, whatever the call, as in the paper, which needs answers that tell the whole state; or that
    all tokens before the chunk are the same, as `turn` asks where an answer is empty."""

    turn_rewards: TurnRewards = "add"
    """What becomes of rewards that the environment gives within the episode: they `add` to the final
    reward, are the `only` reward, or are ignored."""

    clip_low: float = Field(default=0.2, ge=0.0, le=1.0)
    """How far below 1 a token's ratio may fall before a push downwards stops."""

    clip_high: NonNegativeFloat = 0.2
    """How far above 1 a token's ratio may rise before a push upwards stops."""

    dual_clip: float | None = Field(default=None, gt=1.0)
    """Ratio above which a negative advantage pushes no more; None lets it push on."""

    normalisation: Normalisation = "trajectory-mean"
    """What the loss is averaged over: trajectories (`sum`), chunks after a mean over each one's tokens,
    trajectories after a mean over each one's tokens, all tokens alike, or trajectories after division by one
    constant length. Masked tokens never count."""
