"""Runs rollouts as asyncio tasks of this process, or of worker processes of its own.

Knows nothing of what an episode does.
"""

import asyncio
import math
import pickle
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tumbler.contracts.execution import ComponentRecipe, Engines, EpisodeRunner, RolloutRequest, WorkerRecipe
from tumbler.errors import RunError
from tumbler.trajectory.record import Trajectory
from tumbler_backends.execution.dispatch import WorkerPool
from tumbler_backends.execution.local.engines import tokenizers_of
from tumbler_backends.execution.local.process import WorkerProcess
from tumbler_backends.execution.local.settings import LocalSettings

__all__ = ["LocalExecution"]


class LocalExecution:
    """An execution backend whose workers are tasks on the caller's event loop, or processes of this machine.

    Inference and training stay in this process either way.
    """

    def __init__(self, settings: LocalSettings) -> None:
        """Keep the settings; `start` gives the runner, or `start_workers` the recipe."""
        self._settings = settings
        self._runner: EpisodeRunner | None = None
        self._in_flight: set[asyncio.Future[Trajectory]] = set()
        self._pool: WorkerPool | None = None
        self._logs: Path | None = None

    @property
    def distributed(self) -> bool:
        """Say whether episodes run in worker processes."""
        return self._settings.workers > 0

    @property
    def capacity(self) -> int:
        """Return how many rollouts may be in flight."""
        return self._settings.capacity

    async def place(self, recipe: ComponentRecipe) -> object | None:
        """Leave every component in this process."""
        return None

    async def start(self, runner: EpisodeRunner) -> None:
        """Keep the runner."""
        self._runner = runner

    async def start_workers(self, recipe: WorkerRecipe, engines: Engines) -> None:
        """Start the worker processes; raises what the recipe raises in one of them."""
        settings = self._settings
        packed, tokenizers = pickle.dumps(recipe), tokenizers_of(engines)
        self._logs = logs = Path(tempfile.mkdtemp(prefix="tumbler-workers-"))

        def worker(index: int) -> WorkerProcess:
            return WorkerProcess(
                index,
                recipe=packed,
                engines=engines,
                tokenizers=tokenizers,
                log=logs / f"{index}.log",
                start_timeout=settings.start_timeout,
            )

        room = math.ceil(settings.capacity / settings.workers)
        self._pool = WorkerPool(worker, workers=settings.workers, room=room, restarts=settings.restarts)
        await self._pool.start()

    async def submit(self, request: RolloutRequest) -> Trajectory:
        """Run one rollout to its end; cancelling the call cancels the episode and waits for its clean-up."""
        if self._pool is not None:
            return await self._pool.submit(request)
        if self._runner is None:
            raise RunError("the execution backend 'local' was asked for a rollout before it was started")
        task = asyncio.ensure_future(self._runner(request))
        self._in_flight.add(task)
        task.add_done_callback(self._in_flight.discard)
        return await task

    async def health(self) -> Mapping[str, float]:
        """Return how many rollouts are in flight, and of workers how many live and were replaced."""
        if self._pool is not None:
            return self._pool.health()
        return {"in_flight": float(len(self._in_flight)), "workers": 1.0}

    async def close(self) -> None:
        """Cancel what is in flight, wait until it has cleaned up, and end the workers."""
        if self._pool is not None:
            await self._pool.close()
        if self._logs is not None:
            shutil.rmtree(self._logs, ignore_errors=True)
        tasks = list(self._in_flight)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
