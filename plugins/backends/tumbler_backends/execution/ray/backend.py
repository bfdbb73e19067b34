"""Runs rollouts, engines and the trainer as actors of a Ray cluster; knows nothing of what they do."""

import pickle
import sys
from collections.abc import Mapping
from pathlib import Path

import ray

from tumbler.contracts.execution import ComponentRecipe, Engines, EpisodeRunner, RolloutRequest, WorkerRecipe
from tumbler.errors import RunError
from tumbler.trajectory.record import Trajectory
from tumbler_backends.execution.dispatch import WorkerPool
from tumbler_backends.execution.ray.actors import InferenceActor, TrainingActor
from tumbler_backends.execution.ray.inference import PlacedInference
from tumbler_backends.execution.ray.placement import Cluster
from tumbler_backends.execution.ray.settings import RaySettings
from tumbler_backends.execution.ray.training import PlacedTraining
from tumbler_backends.execution.ray.worker import WorkerActor

__all__ = ["RayExecution"]


class RayExecution:
    """An execution backend whose workers are actors, wherever the cluster has room for them."""

    distributed = True

    def __init__(self, settings: RaySettings) -> None:
        """Keep the settings; nothing is connected before `place` or `start_workers`."""
        self._settings = settings
        self._cluster: Cluster | None = None
        self._pool: WorkerPool | None = None

    @property
    def capacity(self) -> int:
        """Return how many rollouts may be in flight."""
        return self._settings.workers * self._settings.episodes

    async def place(self, recipe: ComponentRecipe) -> object | None:
        """Put engines, and the trainer if it is wanted there, into actors."""
        if recipe.role == "training":
            return await self._place_training(recipe)
        settings = self._settings
        bundles = await self._connected().reserve(
            f"the engines that serve the {'teacher' if recipe.role == 'teacher' else 'policy'}",
            settings.engines,
            cpus=settings.engine_cpus,
            gpus=settings.engine_gpus,
        )
        given = (_path(), pickle.dumps(recipe), settings.start_timeout)
        actors = [
            bundles.actor(index, InferenceActor, *given, restarts=settings.restarts)
            for index in range(settings.engines)
        ]
        return PlacedInference(actors, settings)

    async def start(self, runner: EpisodeRunner) -> None:
        """Refuse: a runner of this process is of no use elsewhere."""
        raise RunError("the execution backend 'ray' runs episodes in actors; start it with start_workers")

    async def start_workers(self, recipe: WorkerRecipe, engines: Engines) -> None:
        """Start the workers; raises what the recipe raises in one of them."""
        settings = self._settings
        bundles = await self._connected().reserve(
            "the workers", settings.workers, cpus=settings.worker_cpus, gpus=settings.worker_gpus
        )
        packed, stored = pickle.dumps(recipe), ray.put(engines)

        def worker(index: int) -> WorkerActor:
            return WorkerActor(
                index, bundles, path=_path(), recipe=packed, engines=stored, start_timeout=settings.start_timeout
            )

        self._pool = WorkerPool(worker, workers=settings.workers, room=settings.episodes, restarts=settings.restarts)
        await self._pool.start()

    async def submit(self, request: RolloutRequest) -> Trajectory:
        """Run one rollout to its end; cancelling the call cancels the episode and waits for its clean-up."""
        if self._pool is None:
            raise RunError("the execution backend 'ray' was asked for a rollout before it was started")
        return await self._pool.submit(request)

    async def health(self) -> Mapping[str, float]:
        """Return how many rollouts are in flight, and of workers how many live and were replaced."""
        return {"in_flight": 0.0, "workers": 0.0} if self._pool is None else self._pool.health()

    async def close(self) -> None:
        """Cancel what is in flight, wait until it has cleaned up, and leave nothing of ours in the cluster."""
        if self._pool is not None:
            await self._pool.close()
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None

    def _connected(self) -> Cluster:
        if self._cluster is None:
            self._cluster = Cluster(self._settings)
        return self._cluster

    async def _place_training(self, recipe: ComponentRecipe) -> PlacedTraining | None:
        settings = self._settings
        if not settings.trainer:
            return None
        bundles = await self._connected().reserve(
            "the trainer", 1, cpus=settings.trainer_cpus, gpus=settings.trainer_gpus
        )
        actor = bundles.actor(0, TrainingActor, _path(), pickle.dumps(recipe))
        return PlacedTraining(actor, settings, resume=recipe.resume)


def _path() -> list[str]:
    """Return where this process finds its modules; elsewhere, folders that are not there do no harm."""
    return [str(Path(folder).resolve()) for folder in sys.path if folder]
