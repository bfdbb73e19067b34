"""What algorithms and training backends hand each other: credited trajectories, token batches, losses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from tumbler.trajectory.record import Trajectory

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CreditedTrajectory", "LossOutput", "OldPolicySource", "TokenBatch"]

OldPolicySource: TypeAlias = Literal["snapshot", "recompute", "behaviour"]
"""Where the log-probabilities of the policy that sampled come from.

`snapshot`: the training engine with the kept weights of each chunk's policy version.
`recompute`: the training engine on arrival, before this batch moves the weights.
`behaviour`: the inference engine's own, so that no engine mismatch is seen.
"""


@dataclass(frozen=True, kw_only=True)
class CreditedTrajectory:
    """A trajectory and the credit of each of its chunks, in the order of `trajectory.chunks`."""

    trajectory: Trajectory
    credits: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class TokenBatch:
    """What an algorithm's loss sees. B rows (segments), T tokens, C chunks, N trajectories.

    Rows are right-padded segments. Every row of a trajectory is in the same batch. Only chunks that
    may be trained have an index; whatever lies at other positions must change nothing. The tokens of a
    chunk are one run in one row; chunks of one trajectory have ascending indices, in the order of
    their positions.
    """

    token_ids: "Tensor"
    """[B, T] int64."""
    policy_logprobs: "Tensor"
    """[B, T] log-probability of each token under the weights in training; carries the gradient; 0 at position 0."""
    old_logprobs: "Tensor"
    """[B, T] under the weights that sampled, by the training engine; see `OldPolicySource`."""
    behaviour_logprobs: "Tensor"
    """[B, T] as the inference engine reported them."""
    chunk_of_token: "Tensor"
    """[B, T] int64: index of the trainable chunk in [0, C), or -1."""
    imitation_mask: "Tensor"
    """[B, T] bool: tokens of replayed expert chunks, for an imitation term; never trained by RL."""
    chunk_credit: "Tensor"
    """[C] what `Algorithm.credit` returned."""
    chunk_trajectory: "Tensor"
    """[C] int64: index of the chunk's trajectory in [0, N)."""
    chunk_position: "Tensor"
    """[C] int64: position of the chunk among all chunks of its trajectory, from 0."""
    reward: "Tensor"
    """[N] the trajectory's final reward."""
    reference_logprobs: "Tensor | None" = None
    """[B, T] under the weights with which the phase began; None unless `UpdateRule.reference`."""
    entropies: "Tensor | None" = None
    """[B, T] entropy of what each token was drawn from, under the weights in training; carries the gradient;
    None unless `UpdateRule.entropy`."""
    values: "Tensor | None" = None
    """[B, T] what the value head expects before the token; carries the gradient; None unless `UpdateRule.values`."""
    old_values: "Tensor | None" = None
    """[B, T] the same before the first optimizer step on these trajectories."""
    imitation_chunk_of_token: "Tensor | None" = None
    """[B, T] int64: index of the replayed chunk in [0, E), or -1; at least 0 exactly where `imitation_mask` is
    true. None from a backend that does not tell, as are the next three."""
    imitation_credit: "Tensor | None" = None
    """[E] what `Algorithm.credit` returned for the replayed chunk."""
    imitation_trajectory: "Tensor | None" = None
    """[E] int64: index of the replayed chunk's trajectory in [0, N)."""
    imitation_position: "Tensor | None" = None
    """[E] int64: position of the replayed chunk among all chunks of its trajectory, from 0."""


@dataclass(frozen=True, kw_only=True)
class LossOutput:
    """A loss as a sum and what to divide it by, so that accumulation over micro-batches is exact.

    The backend adds the gradients of `total` over all micro-batches of an optimizer step and divides
    them by the sum of `denominator`. `metrics` are (sum, count) pairs, added up the same way;
    `samples` are values for histograms.
    """

    total: "Tensor"
    """[] with gradient."""
    denominator: float
    metrics: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)
