"""A training backend that only counts: what it was given, and how often; for tests without a model."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from tumbler.config import Settings
from tumbler.contracts.algorithm import Algorithm
from tumbler.contracts.batch import CreditedTrajectory
from tumbler.contracts.inference import WeightUpdate
from tumbler.contracts.training import Phase, StepReport
from tumbler.errors import RunFolderError
from tumbler.trajectory.record import Chunk, Trajectory

__all__ = ["CountingSettings", "CountingTrainer"]


class CountingSettings(Settings):
    """Settings of `CountingTrainer`: none."""


class CountingTrainer:
    """Takes one step for each batch that holds anything to train; `seen` lists the trajectories' ids."""

    def __init__(self, settings: CountingSettings) -> None:
        """Start at version 0."""
        self._version = 0
        self.seen: list[str] = []
        self.phases: list[tuple[Phase, int]] = []

    async def start(self, model: Path, *, seed: int) -> None:
        """Need no model."""

    def begin(self, phase: Phase, *, optimizer_steps: int) -> None:
        """Note the phase and how many optimizer steps it will take."""
        self.phases.append((phase, optimizer_steps))

    async def fit_sft(self, batch: Sequence[Trajectory]) -> StepReport:
        """Count the demonstrations, unless every chunk is masked."""
        return self._count(batch, [chunk for each in batch for chunk in each.chunks if _imitable(chunk)])

    async def step(self, batch: Sequence[CreditedTrajectory], algorithm: Algorithm) -> StepReport:
        """Count the trajectories, unless none has a chunk to train; the algorithm's loss is not asked for."""
        trajectories = [each.trajectory for each in batch]
        return self._count(trajectories, [chunk for each in trajectories for chunk in each.chunks if chunk.trainable])

    @property
    def version(self) -> int:
        """Return how many calls have counted."""
        return self._version

    def weights(self) -> WeightUpdate:
        """Return the version; there are no weights."""
        return WeightUpdate(version=self._version)

    async def save(self, folder: Path) -> None:
        """Write what was counted."""
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "model").mkdir(parents=True)
        (folder / "state.json").write_text(json.dumps({"version": self._version, "seen": self.seen}), encoding="utf-8")

    async def load(self, folder: Path) -> None:
        """Read what was counted."""
        try:
            state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        except OSError as error:
            raise RunFolderError(f"{folder} holds no checkpoint of the counting trainer: {error}") from error
        self._version, self.seen = state["version"], state["seen"]

    async def close(self) -> None:
        """Hold nothing."""

    def _count(self, batch: Sequence[Trajectory], chunks: Sequence[Chunk]) -> StepReport:
        self.seen += [each.id for each in batch]
        if not chunks:
            return StepReport(optimizer_steps=0, metrics={"train/chunks": 0.0})
        self._version += 1
        return StepReport(optimizer_steps=1, metrics={"train/chunks": float(len(chunks))})


def _imitable(chunk: Chunk) -> bool:
    """Return whether supervised training learns from the chunk (Eq. 1-2 of arXiv 2512.24873)."""
    return chunk.relevant and not chunk.errored
