"""The execution backend `sequential`: one rollout at a time, for debugging and for reproducible logs."""

import asyncio
from collections.abc import Mapping

from tumbler.config import NoSettings
from tumbler.contracts.execution import EpisodeRunner, RolloutRequest
from tumbler.errors import RunError
from tumbler.trajectory import Trajectory

__all__ = ["Sequential"]


class Sequential:
    """Runs rollouts in the order in which they are submitted."""

    def __init__(self, settings: NoSettings) -> None:
        """Take no settings; `start` gives the runner."""
        self._runner: EpisodeRunner | None = None
        self._turn = asyncio.Lock()
        self._calls: set[asyncio.Task[Trajectory]] = set()

    async def start(self, runner: EpisodeRunner) -> None:
        """Keep the runner."""
        self._runner = runner

    @property
    def capacity(self) -> int:
        """Take one rollout at a time."""
        return 1

    async def submit(self, request: RolloutRequest) -> Trajectory:
        """Run one rollout; cancelling the call cancels the episode and waits for its clean-up."""
        if self._runner is None:
            raise RunError("the execution backend hello/sequential was asked for a rollout before it was started")
        call = asyncio.ensure_future(self._run(self._runner, request))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        return await call

    async def health(self) -> Mapping[str, float]:
        """Return how many rollouts run and wait."""
        return {"in_flight": float(self._turn.locked()), "submitted": float(len(self._calls))}

    async def close(self) -> None:
        """Cancel what is in flight and wait until it has cleaned up."""
        calls = list(self._calls)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    async def _run(self, runner: EpisodeRunner, request: RolloutRequest) -> Trajectory:
        async with self._turn:
            return await runner(request)
