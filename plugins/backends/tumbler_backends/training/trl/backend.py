"""The `trl` training backend: TRL's trainers behind a thread of their own, so that the event loop stays free."""

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
from tumbler_backends.training.trl.settings import TRLTrainingSettings
from tumbler_backends.training.trl.training import Training

__all__ = ["TRLTraining"]

_CLOSE_SECONDS = 30.0
Result = TypeVar("Result")


class TRLTraining:
    """Trains a Hugging Face causal LM with TRL: demonstrations with `SFTTrainer`, rollouts with `GRPOTrainer`.

    The loss of RL steps is TRL's, as set under `loss`. Of the algorithm, its plan, its credit and its update
    rule count; its own loss does not. Its credit must be one value per trajectory.
    """

    def __init__(self, settings: TRLTrainingSettings) -> None:
        self._settings = settings
        self._worker = ComputingThread("training", error=RunError, processors=settings.threads)
        self._training: Training | None = None

    async def start(self, model: Path, *, seed: int) -> None:
        """Load the model folder as policy version 0; `seed` decides how minibatches are dealt."""
        self._training = await self._run(lambda: Training(model, self._settings, seed=seed))

    def begin(self, phase: Phase, *, optimizer_steps: int) -> None:
        """Begin a phase with a fresh optimizer, its schedule laid out over `optimizer_steps`."""
        training = self._started
        self._worker.call(lambda: training.begin(phase, optimizer_steps=optimizer_steps)).result()

    async def fit_sft(self, batch: Sequence[Trajectory]) -> StepReport:
        """Take one supervised optimizer step; raise `RunError` outside phase "sft"."""
        training = self._started
        return await self._run(lambda: training.fit_sft(batch))

    async def step(self, batch: Sequence[CreditedTrajectory], algorithm: Algorithm) -> StepReport:
        """Take optimizer steps on TRL's loss with the algorithm's credit as advantages.

        Raise `RunError` outside phase "rl", for rollouts of several temperatures, and for an algorithm whose
        loss TRL's cannot stand in for: with several values of credit in a trajectory, a value head, imitation,
        a reference policy or an entropy term of its own, or snapshots as the old policy.
        """
        training = self._started
        return await self._run(lambda: training.step(batch, algorithm))

    @property
    def version(self) -> int:
        """Return the policy version: how many calls have changed the weights; 0 before `start`."""
        return 0 if self._training is None else self._training.version

    def weights(self) -> WeightUpdate:
        """Return a copy of the weights: later steps do not change it, and its reader must not either.

        Tied weights come under each of their names.
        """
        return self._worker.call(self._started.weights).result()

    async def save(self, folder: Path) -> None:
        """Write a checkpoint; a crash leaves the old one or none, never half of one."""
        training = self._started
        await self._run(lambda: training.save(folder))

    async def load(self, folder: Path) -> None:
        """Continue exactly from a checkpoint; raise `RunFolderError` if there is none that can be read."""
        training = self._started
        await self._run(lambda: training.load(folder))

    async def close(self) -> None:
        """Let go of weights, optimizer, scratch files and thread; safe to call twice."""
        training, self._training = self._training, None
        if training is not None:
            await self._run(training.close)
        await asyncio.to_thread(self._worker.close, _CLOSE_SECONDS)

    @property
    def _started(self) -> Training:
        if self._training is None:
            raise RunError("the trl training backend has no model yet; call start(model, seed=...) first")
        return self._training

    async def _run(self, work: Callable[[], Result]) -> Result:
        return await asyncio.wrap_future(self._worker.call(work))
