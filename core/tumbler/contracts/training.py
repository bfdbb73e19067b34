"""What a training backend is: optimizer steps on trajectories, checkpoints, weights to publish."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from tumbler.contracts.algorithm import Algorithm
from tumbler.contracts.batch import CreditedTrajectory
from tumbler.contracts.inference import WeightUpdate
from tumbler.trajectory.record import Trajectory

__all__ = ["Phase", "StepReport", "TrainingBackend"]

Phase: TypeAlias = Literal["sft", "rl"]


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What one call of `step` or `fit_sft` did."""

    optimizer_steps: int
    """Optimizer steps taken by this call; 0 if every token was masked."""
    metrics: Mapping[str, float]
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)


@runtime_checkable
class TrainingBackend(Protocol):
    """Owns the weights in training. One caller at a time; the calls run outside the event loop."""

    async def start(self, model: Path, *, seed: int) -> None:
        """Load the model folder (Hugging Face format) as policy version 0."""
        ...

    def begin(self, phase: Phase, *, optimizer_steps: int) -> None:
        """Begin a phase with a fresh optimizer, its schedule laid out over `optimizer_steps`."""
        ...

    async def fit_sft(self, batch: Sequence[Trajectory]) -> StepReport:
        """Take one supervised optimizer step on the demonstrations' chunks, masked by Eq. 1-2."""
        ...

    async def step(self, batch: Sequence[CreditedTrajectory], algorithm: Algorithm) -> StepReport:
        """Take the algorithm's optimizer steps on one batch of credited trajectories."""
        ...

    @property
    def version(self) -> int:
        """Return the policy version: how many `fit_sft` and `step` calls have changed the weights."""
        ...

    def weights(self) -> WeightUpdate:
        """Return the current weights for the inference backend."""
        ...

    async def save(self, folder: Path) -> None:
        """Write a checkpoint: `model/` in Hugging Face format, and optimizer, schedule, RNG, version."""
        ...

    async def load(self, folder: Path) -> None:
        """Continue exactly from a checkpoint that `save` wrote."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...
