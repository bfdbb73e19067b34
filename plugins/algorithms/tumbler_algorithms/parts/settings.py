"""Settings that many algorithms have; knows no algorithm."""

from typing import Literal, Self, TypeAlias

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from tumbler.config import Settings
from tumbler.contracts.algorithm import UpdateRule
from tumbler.contracts.batch import OldPolicySource

__all__ = [
    "AlgorithmSettings",
    "CorrectionSettings",
    "KLEstimator",
    "KLReference",
    "Level",
    "RegularisationSettings",
    "RegularisedSettings",
]

Level: TypeAlias = Literal["none", "token", "chunk", "trajectory"]
KLEstimator: TypeAlias = Literal["k1", "k2", "k3"]
KLReference: TypeAlias = Literal["initial", "old", "behaviour"]


class AlgorithmSettings(Settings):
    """How many rollouts a step takes, and how they become optimizer steps."""

    tasks_per_step: PositiveInt = 8
    """Tasks that each step rolls out."""

    group_size: PositiveInt = 8
    """Rollouts of each task."""

    old_policy: OldPolicySource = "recompute"
    """Where the log-probabilities of the policy that sampled come from."""

    epochs: PositiveInt = 1
    """Passes over a step's trajectories."""

    minibatches: PositiveInt = 1
    """Optimizer steps in one pass."""

    def update_rule(self, *, reference: bool = False, entropy: bool = False, values: bool = False) -> UpdateRule:
        """Return how a batch becomes optimizer steps; the arguments say what else the loss reads."""
        return UpdateRule(
            old_policy=self.old_policy,
            epochs=self.epochs,
            minibatches=self.minibatches,
            reference=reference,
            entropy=entropy,
            values=values,
        )


class CorrectionSettings(Settings):
    """What becomes of tokens that the training engine and the inference engine find unequally likely.

    The gap is π_old/μ, as a geometric mean over the level. A field `correction: CorrectionSettings =
    CorrectionSettings()` gives an algorithm this table; by default nothing is corrected.
    """

    mask: Level = "none"
    """What is left out where its gap is out of bounds: single tokens, whole chunks, whole trajectories, nothing."""

    low: NonNegativeFloat = Field(default=0.0, le=1.0)
    """The least gap that is kept; 0 keeps every small one."""

    high: float | None = Field(default=2.0, ge=1.0)
    """The greatest gap that is kept; None keeps every great one."""

    weight: Level = "none"
    """What is weighed by its own gap, to make up for sampling from the inference engine; `none` weighs all by 1."""

    cap: PositiveFloat = 2.0
    """What the weight is truncated to from above."""

    @model_validator(mode="after")
    def _mask_has_a_bound(self) -> Self:
        if self.mask != "none" and self.low == 0 and self.high is None:
            raise ValueError(f"mask = {self.mask!r} masks nothing without a bound: set low above 0, or high")
        return self


class RegularisationSettings(Settings):
    """What is added to the loss of every trained token. A second base class of an algorithm's settings."""

    kl_weight: NonNegativeFloat = 0.0
    """Weight of a penalty on the divergence between the policy and `kl_reference`; 0 leaves it out."""

    kl_estimator: KLEstimator = "k3"
    """How the divergence is estimated from sampled tokens. As a penalty on the initial policy, k2 has the
    gradient of KL(policy‖initial), k3 that of KL(initial‖policy), and k1 none on average."""

    kl_reference: KLReference = "initial"
    """The weights with which the phase began, those that sampled, or those as the inference engine had them. Those
    that sampled are another policy only after an optimizer step, or with `old_policy` other than "recompute"."""

    entropy_weight: NonNegativeFloat = 0.0
    """Weight of a bonus on the policy's entropy; 0 leaves it out."""

    @property
    def needs_reference(self) -> bool:
        """Say whether the loss reads the log-probabilities of the initial weights."""
        return self.kl_weight > 0 and self.kl_reference == "initial"

    @property
    def needs_entropy(self) -> bool:
        """Say whether the loss reads entropies."""
        return self.entropy_weight > 0


class RegularisedSettings(RegularisationSettings, AlgorithmSettings):
    """Both of them, where they agree with each other."""

    @model_validator(mode="after")
    def _reference_is_another_policy(self) -> Self:
        itself = self.kl_reference == "old" and self.old_policy == "recompute" and self.epochs == self.minibatches == 1
        if self.kl_weight > 0 and itself:
            raise ValueError(
                f'kl_weight = {self.kl_weight:g} with kl_reference = "old" does nothing: with old_policy = '
                '"recompute", 1 epoch and 1 minibatch that is the policy in training itself; set kl_reference = '
                '"initial", more epochs or minibatches, or old_policy = "snapshot" or "behaviour"'
            )
        return self
