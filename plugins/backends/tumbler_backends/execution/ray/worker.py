"""A worker for episodes that is an actor, as the process sees it that leads the run."""

import contextlib
from typing import TYPE_CHECKING, Any

import ray

from tumbler.contracts.execution import RolloutRequest
from tumbler.errors import RunError
from tumbler.trajectory.record import Trajectory
from tumbler_backends.execution.dispatch import WorkerLost
from tumbler_backends.execution.ray.actors import RolloutActor
from tumbler_backends.execution.ray.calls import ActorLost, NoAnswer, ask, ask_cancellable
from tumbler_backends.execution.ray.placement import Bundles

if TYPE_CHECKING:
    from ray.actor import ActorHandle

__all__ = ["WorkerActor"]

_CLOSE_S = 60.0


class WorkerActor:
    """An `EpisodeWorker` in a bundle of the cluster."""

    def __init__(
        self,
        index: int,
        bundles: Bundles,
        *,
        path: list[str],
        recipe: bytes,
        engines: "ray.ObjectRef[Any]",
        start_timeout: float,
    ) -> None:
        """Prepare the worker of that bundle; `recipe` is a pickled `WorkerRecipe`."""
        self._index = index
        self._bundles = bundles
        self._path = path
        self._recipe = recipe
        self._engines = engines
        self._start_timeout = start_timeout
        self._actor: ActorHandle[Any] | None = None

    async def start(self) -> None:
        """Have Ray start the actor, wherever the bundle is, and open the recipe there."""
        self._actor = self._bundles.actor(self._index, RolloutActor, self._path)
        opening: ray.ObjectRef[Any] = self._actor.open.remote(self._recipe, self._engines)
        try:
            await ask(opening, self._start_timeout, f"starting worker {self._index}")
        except NoAnswer as error:
            self._kill()
            raise RunError(f"{error}; raise start_timeout of the execution backend, or add a node") from error
        except BaseException:
            self._kill()
            raise

    async def run(self, request: RolloutRequest) -> Trajectory:
        """Run one episode there; cancelling the call cancels it and waits for its clean-up."""
        if self._actor is None:
            raise WorkerLost(f"worker {self._index} is not started")
        what = f"worker {self._index}"
        try:
            # An episode has limits of its own.
            trajectory: Trajectory = await ask_cancellable(self._actor, "run", request, seconds=None, what=what)
        except ActorLost as error:
            raise WorkerLost(str(error)) from error
        return trajectory

    async def stop(self) -> None:
        """Cancel its episodes, wait until they have cleaned up, and end it."""
        if self._actor is None or not ray.is_initialized():
            return
        with contextlib.suppress(ActorLost, NoAnswer):
            await ask(self._actor.close.remote(), _CLOSE_S, f"closing worker {self._index}")
        self._kill()

    def _kill(self) -> None:
        if self._actor is not None:
            ray.kill(self._actor)
