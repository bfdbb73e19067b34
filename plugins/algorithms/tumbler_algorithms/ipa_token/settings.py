"""Settings of token-level IPA; they bear the names of IPA's."""

from typing import Self

from pydantic import Field, model_validator

from tumbler_algorithms.parts.baselines import Baseline
from tumbler_algorithms.parts.objective import Normalisation, ObjectiveSettings
from tumbler_algorithms.parts.rewards import TurnRewards, check_rewards

__all__ = ["TokenIPASettings"]


class TokenIPASettings(ObjectiveSettings):
    """How token-level IPA samples, credits and updates."""

    gamma: float = Field(default=0.95, gt=0.0, le=1.0)
    """Discount for each trained token. One of IPA's for chunks forgets the reward within a few tokens: its root by
    the tokens of a usual chunk discounts a trajectory's first token alike."""

    failure_reward: float | None = Field(default=None, le=0.0)
    """Final reward of a trajectory that failed (reward ≤ 0, or no success), such as -0.2 or -1.

    None keeps the environment's own. Where that is 0 failures then train nothing."""

    turn_rewards: TurnRewards = "add"
    """What becomes of rewards that the environment gives within the episode: they `add` to the final
    reward, are the `only` reward, or are ignored."""

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

    @model_validator(mode="after")
    def _final_reward_counts(self) -> Self:
        check_rewards(self.turn_rewards, self.failure_reward, self.baseline)
        return self
