"""Runs rollouts as asyncio tasks of this process; knows nothing of what an episode does."""

import asyncio
from collections.abc import Mapping

from tumbler.contracts.execution import EpisodeRunner, RolloutRequest
from tumbler.errors import RunError
from tumbler.trajectory.record import Trajectory
from tumbler_backends.execution.local.settings import LocalSettings

__all__ = ["LocalExecution"]


class LocalExecution:
    """An execution backend whose workers are tasks on the caller's event loop."""

    def __init__(self, settings: LocalSettings) -> None:
        """Keep the settings; `start` gives the runner."""
        self._settings = settings
        self._runner: EpisodeRunner | None = None
        self._in_flight: set[asyncio.Future[Trajectory]] = set()

    @property
    def capacity(self) -> int:
        """Return how many rollouts may be in flight."""
        return self._settings.capacity

    async def start(self, runner: EpisodeRunner) -> None:
        """Keep the runner."""
        self._runner = runner

    async def submit(self, request: RolloutRequest) -> Trajectory:
        """Run one rollout to its end; cancelling the call cancels the episode and waits for its clean-up."""
        if self._runner is None:
            raise RunError("the execution backend 'local' was asked for a rollout before it was started")
        task = asyncio.ensure_future(self._runner(request))
        self._in_flight.add(task)
        task.add_done_callback(self._in_flight.discard)
        return await task

    async def health(self) -> Mapping[str, float]:
        """Return how many rollouts are in flight."""
        return {"in_flight": float(len(self._in_flight)), "workers": 1.0}

    async def close(self) -> None:
        """Cancel what is in flight and wait until it has cleaned up."""
        tasks = list(self._in_flight)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
