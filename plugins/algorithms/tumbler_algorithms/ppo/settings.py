"""Settings of PPO."""

from typing import Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from tumbler_algorithms.parts.objective import ObjectiveSettings
from tumbler_algorithms.parts.rewards import TurnRewards, check_rewards

__all__ = ["PPOSettings"]


class PPOSettings(ObjectiveSettings):
    """How PPO samples, credits and updates. The training backend must train a value head."""

    gamma: float = Field(default=1.0, gt=0.0, le=1.0)
    """Discount for each trained token."""

    gae_lambda: float = Field(default=0.95, ge=0.0, le=1.0)
    """λ of generalised advantage estimation: 0 trusts the value head alone, 1 the rewards alone."""

    turn_rewards: TurnRewards = "add"
    """What becomes of rewards that the environment gives within the episode: they `add` to the final
    reward, are the `only` reward, or are ignored."""

    failure_reward: float | None = None
    """Final reward of a trajectory that failed (reward ≤ 0, or no success); None keeps the environment's own."""

    clip_low: float = Field(default=0.2, ge=0.0, le=1.0)
    """How far below 1 a token's ratio may fall before a push downwards stops."""

    clip_high: NonNegativeFloat = 0.2
    """How far above 1 a token's ratio may rise before a push upwards stops."""

    dual_clip: float | None = Field(default=None, gt=1.0)
    """Ratio above which a negative advantage pushes no more; None lets it push on."""

    value_weight: NonNegativeFloat = 0.5
    """Weight of the value head's squared error beside the policy's loss; 0 leaves the head as it is."""

    value_clip: PositiveFloat | None = 0.2
    """How far a value may move from what it was before the first optimizer step until its error stops
    pushing it further, in the unit of rewards; None sets no bound."""

    @model_validator(mode="after")
    def _final_reward_counts(self) -> Self:
        check_rewards(self.turn_rewards, self.failure_reward)
        return self
