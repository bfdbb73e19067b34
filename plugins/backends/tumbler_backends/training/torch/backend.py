"""The `torch` training backend: one trainer or several behind a thread, so that the event loop stays free."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tumbler.contracts.algorithm import Algorithm
from tumbler.contracts.batch import CreditedTrajectory
from tumbler.contracts.inference import WeightUpdate
from tumbler.contracts.training import Phase, StepReport
from tumbler.errors import RunError
from tumbler.trajectory.record import Trajectory
from tumbler_backends.computing import ComputingThread
from tumbler_backends.training.torch.settings import TorchTrainingSettings
from tumbler_backends.training.torch.trainer import Trainer
from tumbler_backends.training.torch.workers.crew import Crew

__all__ = ["TorchTraining"]

_CLOSE_SECONDS = 30.0
Result = TypeVar("Result")


class TorchTraining:
    """Trains any Hugging Face causal LM with PyTorch and Accelerate, in this process or in several of its own.

    All torch work of this process runs off the event loop, one call after the other in their order; one that is
    cancelled when it has begun still finishes before the next begins.
    """

    def __init__(self, settings: TorchTrainingSettings) -> None:
        self._settings = settings
        self._worker = ComputingThread("training", error=RunError, processors=settings.threads)
        self._trainer: Trainer | Crew | None = None

    async def start(self, model: Path, *, seed: int) -> None:
        """Load the model folder as policy version 0; `seed` decides how minibatches are dealt."""
        make = Trainer if self._settings.processes == 1 else Crew
        self._trainer = await self._run(lambda: make(model, self._settings, seed=seed))

    def begin(self, phase: Phase, *, optimizer_steps: int) -> None:
        """Begin a phase with a fresh optimizer, its schedule laid out over `optimizer_steps`."""
        trainer = self._started
        self._worker.call(lambda: trainer.begin(phase, optimizer_steps=optimizer_steps)).result()

    async def fit_sft(self, batch: Sequence[Trajectory]) -> StepReport:
        """Take one supervised optimizer step; raise `RunError` outside phase "sft"."""
        trainer = self._started
        return await self._run(lambda: trainer.fit_sft(batch))

    async def step(self, batch: Sequence[CreditedTrajectory], algorithm: Algorithm) -> StepReport:
        """Take the algorithm's optimizer steps; raise `RunError` outside phase "rl"."""
        trainer = self._started
        return await self._run(lambda: trainer.step(batch, algorithm))

    @property
    def version(self) -> int:
        """Return the policy version: how many calls have changed the weights; 0 before `start`."""
        return 0 if self._trainer is None else self._trainer.version

    def weights(self) -> WeightUpdate:
        """Return a copy of the weights: later steps do not change it, and its reader must not either.

        Tied weights come under each of their names.
        """
        return self._worker.call(self._started.weights).result()

    async def save(self, folder: Path) -> None:
        """Write a checkpoint; a crash leaves the old one or none, never half of one."""
        trainer = self._started
        await self._run(lambda: trainer.save(folder))

    async def load(self, folder: Path) -> None:
        """Continue exactly from a checkpoint; raise `RunFolderError` if there is none that can be read."""
        trainer = self._started
        await self._run(lambda: trainer.load(folder))

    async def close(self) -> None:
        """Let go of weights, optimizer and thread; safe to call twice."""
        trainer, self._trainer = self._trainer, None
        if trainer is not None:
            await self._run(trainer.close)
        await asyncio.to_thread(self._worker.close, _CLOSE_SECONDS)

    @property
    def _started(self) -> Trainer | Crew:
        if self._trainer is None:
            raise RunError("the torch training backend has no model yet; call start(model, seed=...) first")
        return self._trainer

    async def _run(self, work: Callable[[], Result]) -> Result:
        return await asyncio.wrap_future(self._worker.call(work))
