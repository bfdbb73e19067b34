"""Settings of IPA; what the paper leaves open is a field here."""

from typing import Literal, TypeAlias

from pydantic import Field, NonNegativeFloat, PositiveInt

from tumbler.config import Settings
from tumbler.contracts.batch import OldPolicySource

__all__ = ["AnchorSettings", "Baseline", "IPASettings", "Normalisation", "TurnRewards"]

Baseline: TypeAlias = Literal["none", "mean", "leave-one-out", "whiten"]
Normalisation: TypeAlias = Literal["sum", "chunk-mean", "trajectory-mean", "token-mean"]
TurnRewards: TypeAlias = Literal["add", "only", "ignore"]


class AnchorSettings(Settings):
    """Parallelised initialisation: rollouts that start inside an expert's trajectory (3.2.4.5)."""

    share: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of a step's tasks that start from anchors, on average. 0 asks for no expert at all, which is
    what an environment without an expert needs."""

    choice: Literal["uniform", "random"] = "uniform"
    """Anchors evenly spaced over the expert's chunks, or drawn anew in each step."""

    per_task: PositiveInt = 2
    """Anchors on one expert trajectory; a short one has only as many as it has chunks after the first."""

    group_size: PositiveInt = 4
    """Rollouts from each anchor."""


class IPASettings(Settings):
    """How IPA samples, credits and updates."""

    tasks_per_step: PositiveInt = 8
    """Tasks that each step rolls out."""

    group_size: PositiveInt = 8
    """Rollouts of a task that starts at its beginning."""

    anchors: AnchorSettings = AnchorSettings()
    """Which tasks start inside an expert's trajectory instead."""

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

    mismatch_threshold: float = Field(default=2.0, ge=1.0)
    """H: a chunk is masked when the training engine finds its tokens likelier than the inference engine
    did by more than this factor, as a geometric mean. At least 1, so that equal engines mask nothing."""

    normalisation: Normalisation = "sum"
    """What the loss is averaged over: trajectories (`sum`, Eq. 9), unmasked chunks after a mean over each
    chunk's tokens, trajectories after a mean over each one's unmasked tokens, or unmasked tokens."""

    rl_weight: NonNegativeFloat = 1.0
    """λ_RL of Eq. 10."""

    imitation_weight: NonNegativeFloat = 0.0
    """λ_IL of Eq. 10, on the tokens of replayed expert chunks; 0 leaves them out.

    Each token's negative log-likelihood counts once, over the same denominator as the RL term."""

    old_policy: OldPolicySource = "recompute"
    """Where the log-probabilities of the policy that sampled come from; `behaviour` sees no mismatch."""

    epochs: PositiveInt = 1
    """Passes over a step's trajectories."""

    minibatches: PositiveInt = 1
    """Optimizer steps in one pass."""
