"""The trainer in an actor, as the process sees it that leads the run."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from tumbler.contracts.algorithm import Algorithm
from tumbler.contracts.batch import CreditedTrajectory
from tumbler.contracts.inference import WeightUpdate
from tumbler.contracts.training import Phase, StepReport
from tumbler.errors import RunError, RunFolderError
from tumbler.trajectory.record import Trajectory
from tumbler_backends.execution.ray.calls import ActorLost, NoAnswer, ask, ask_now
from tumbler_backends.execution.ray.settings import RaySettings

if TYPE_CHECKING:
    from ray.actor import ActorHandle

__all__ = ["PlacedTraining"]

_CLOSE_S = 60.0


class PlacedTraining:
    """A `TrainingBackend` that is an actor.

    The algorithm goes there with every step, pickled; what its loss changes in it stays there.
    """

    def __init__(self, actor: "ActorHandle[Any]", settings: RaySettings, *, resume: str) -> None:
        """Lead this actor; `resume` is the command that goes on with the run when it dies."""
        self._actor = actor
        self._settings = settings
        self._resume = resume
        self._version = 0

    async def start(self, model: Path, *, seed: int) -> None:
        """Load the model folder as policy version 0."""
        await self._ask("start", _absolute(model), seed=seed, seconds=self._settings.start_timeout)

    def begin(self, phase: Phase, *, optimizer_steps: int) -> None:
        """Begin a phase with a fresh optimizer."""
        self._ask_now("begin", phase, optimizer_steps=optimizer_steps)

    async def fit_sft(self, batch: Sequence[Trajectory]) -> StepReport:
        """Take one supervised optimizer step on the demonstrations."""
        report: StepReport = await self._ask("fit_sft", list(batch))
        return report

    async def step(self, batch: Sequence[CreditedTrajectory], algorithm: Algorithm) -> StepReport:
        """Take the algorithm's optimizer steps on one batch."""
        report: StepReport = await self._ask("step", list(batch), algorithm)
        return report

    @property
    def version(self) -> int:
        """Return the policy version after the last call."""
        return self._version

    def weights(self) -> WeightUpdate:
        """Put the current weights into the object store, and return where they are."""
        update: WeightUpdate = self._ask_now("weights")
        return update

    async def save(self, folder: Path) -> None:
        """Write a checkpoint; raise `RunFolderError` if it is not to be seen from here."""
        await self._ask("save", _absolute(folder))
        _require(folder)

    async def load(self, folder: Path) -> None:
        """Continue exactly from a checkpoint."""
        await self._ask("load", _absolute(folder))

    async def close(self) -> None:
        """Let go of everything and end the actor."""
        if not ray.is_initialized():
            return
        try:
            await ask(self._actor.do.remote("close"), _CLOSE_S, "closing the trainer")
        except (ActorLost, NoAnswer):
            pass  # it is gone, or in the middle of a step whose end nobody waits for
        finally:
            ray.kill(self._actor)

    async def _ask(self, method: str, *arguments: object, seconds: float | None = None, **options: object) -> Any:  # noqa: ANN401
        seconds = self._settings.step_timeout if seconds is None else seconds
        try:
            result, self._version = await ask(
                self._actor.do.remote(method, *arguments, **options), seconds, f"the trainer's {method}"
            )
        except (ActorLost, NoAnswer) as error:
            raise self._lost(error) from error
        return result

    def _ask_now(self, method: str, *arguments: object, **options: object) -> Any:  # noqa: ANN401
        seconds = self._settings.step_timeout
        try:
            result, self._version = ask_now(
                self._actor.do.remote(method, *arguments, **options), seconds, f"the trainer's {method}"
            )
        except (ActorLost, NoAnswer) as error:
            raise self._lost(error) from error
        return result

    def _lost(self, error: Exception) -> RunError:
        if isinstance(error, ActorLost):
            return RunError(
                f"the trainer is gone, and with it what it learnt since the last checkpoint. {error}\n"
                f"Go on from there with: {self._resume}"
            )
        return RunError(f"{error}; the bounds are step_timeout and start_timeout of the execution backend")


def _absolute(folder: Path) -> Path:
    """Return where the folder is for processes with another working directory."""
    return folder.resolve()


def _require(checkpoint: Path) -> None:
    if not checkpoint.is_dir():
        raise RunFolderError(
            f"the trainer wrote the checkpoint {checkpoint} on its node, and it is not here: that node must share the "
            "run's file system with the process that leads the run"
        )
