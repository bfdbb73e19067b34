"""Settings of IPA; what the paper leaves open is a field here."""

from typing import Literal, Self, TypeAlias

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from tumbler_algorithms.ipa.resampling_settings import AnchorSettings, FilterSettings
from tumbler_algorithms.parts.baselines import Baseline
from tumbler_algorithms.parts.objective import Normalisation
from tumbler_algorithms.parts.rewards import TurnRewards, check_rewards
from tumbler_algorithms.parts.settings import Level, RegularisedSettings

__all__ = ["IPASettings", "ImitationCredit"]

ImitationCredit: TypeAlias = Literal["uniform", "discounted"]


class IPASettings(RegularisedSettings):
    """How IPA samples, credits and updates."""

    group_size: PositiveInt = 8
    """Rollouts of a task that starts at its beginning."""

    anchors: AnchorSettings = AnchorSettings()
    """Which tasks start inside an expert's trajectory instead."""

    filter: FilterSettings = FilterSettings()
    """Which rollouts are refused."""

    gamma: float = Field(default=0.95, gt=0.0, le=1.0)
    """Discount for each chunk (Eq. 7)."""

    failure_reward: float | None = Field(default=None, le=0.0)
    """Final reward of a trajectory that failed (reward ≤ 0, or no success), such as -0.2 or -1.

    None keeps the environment's own. Where that is 0 failures then train nothing, and IPA is
    discounted supervised training on its own successes."""

    turn_rewards: TurnRewards = "add"
    """What becomes of rewards that the environment gives within the episode: they `add` to the final
    reward, are the `only` reward, or are ignored. Without such rewards `add` is Eq. 7 as printed."""

    baseline: Baseline = "none"
    """What is taken from the final reward, over the judged trajectories of the group: nothing, their mean,
    the mean of the others, or the mean and then division by the standard deviation."""

    mask_level: Level = "chunk"
    """What is left out where engines disagree: whole chunks (the paper's), single tokens, whole trajectories,
    or nothing. Ratios and credit belong to chunks at every level."""

    mismatch_threshold: float = Field(default=2.0, ge=1.0)
    """H: a chunk is masked when the training engine finds its tokens likelier than the inference engine
    did by more than this factor, as a geometric mean. At least 1, so that equal engines mask nothing."""

    normalisation: Normalisation = "sum"
    """What the loss is averaged over: trajectories (`sum`, Eq. 9), unmasked chunks after a mean over each
    chunk's tokens, trajectories after a mean over each one's unmasked tokens, unmasked tokens, or trajectories
    after division by one constant length."""

    constant_length: PositiveInt | None = None
    """Tokens that stand for every trajectory's length with `normalisation = "constant"`; None otherwise."""

    rl_weight: NonNegativeFloat = 1.0
    """λ_RL of Eq. 10."""

    imitation_weight: NonNegativeFloat = 0.0
    """λ_IL of Eq. 10, on the tokens of replayed expert chunks; 0 leaves them out.

    Their negative log-likelihood is scaled within each chunk or trajectory as the RL term is, over the same
    denominator."""

    imitation_credit: ImitationCredit = "uniform"
    """What a replayed chunk weighs in the imitation term: 1, or as much as a reward of 1 at the trajectory's
    end, discounted by `gamma` for each chunk from there."""

    @model_validator(mode="after")
    def _length_fits_normalisation(self) -> Self:
        if (self.normalisation == "constant") != (self.constant_length is not None):
            raise ValueError(
                'constant_length goes with normalisation = "constant" and with nothing else: '
                f"found normalisation = {self.normalisation!r} and constant_length = {self.constant_length}"
            )
        return self

    @model_validator(mode="after")
    def _final_reward_counts(self) -> Self:
        check_rewards(self.turn_rewards, self.failure_reward, self.baseline)
        return self

    @model_validator(mode="after")
    def _imitation_has_chunks(self) -> Self:
        anchors = self.anchors
        if self.imitation_weight > 0 and not anchors.at_work:
            raise ValueError(
                f"imitation_weight = {self.imitation_weight:g} has nothing to imitate, as no rollout starts from an "
                f"anchor with anchors.mode = {anchors.mode!r} and anchors.share = {anchors.share:g}: set "
                "imitation_weight = 0, or another mode and a share above 0"
            )
        if self.imitation_weight == 0 and anchors.imitate == "crucial":
            raise ValueError(
                'anchors.imitate = "crucial" chooses what an imitation term is for, and imitation_weight = 0 leaves '
                'that term out: set imitation_weight above 0, or anchors.imitate = "all"'
            )
        return self
