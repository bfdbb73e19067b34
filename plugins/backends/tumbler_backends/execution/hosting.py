"""Episodes in a process that was started for them: opens the worker's recipe, runs what is asked, takes all down."""

import asyncio

from tumbler.contracts.execution import Engines, EpisodeRunner, RolloutRequest, WorkerRecipe
from tumbler.errors import RunError
from tumbler.garbage import rare_collections
from tumbler.trajectory.record import Trajectory

__all__ = ["EpisodeHost"]


class EpisodeHost:
    """Runs the episodes of one recipe, any number at once."""

    def __init__(self) -> None:
        """Run nothing before `open`."""
        self._runner: EpisodeRunner | None = None
        self._in_flight: set[asyncio.Future[Trajectory]] = set()
        self._over = asyncio.Event()
        self._holding: asyncio.Task[None] | None = None

    async def open(self, recipe: WorkerRecipe, engines: Engines) -> None:
        """Make ready; raises what the recipe raises."""
        ready = asyncio.get_running_loop().create_future()
        # One task enters the recipe's context and leaves it: whatever it holds may belong to the task.
        self._holding = asyncio.ensure_future(self._hold(recipe, engines, ready))
        await asyncio.wait([ready, self._holding], return_when=asyncio.FIRST_COMPLETED)
        if self._holding.done():
            await self._holding

    async def run(self, request: RolloutRequest) -> Trajectory:
        """Run one episode; cancelling the call cancels it and waits for its clean-up."""
        if self._runner is None or self._over.is_set():
            raise RunError("this worker runs no episodes: it is not opened, or closed")
        episode = asyncio.ensure_future(self._runner(request))
        self._in_flight.add(episode)
        episode.add_done_callback(self._in_flight.discard)
        return await episode

    async def close(self) -> None:
        """Cancel what is in flight, wait until it has cleaned up, and leave the recipe; safe to call twice."""
        self._over.set()
        episodes = list(self._in_flight)
        for episode in episodes:
            episode.cancel()
        await asyncio.gather(*episodes, return_exceptions=True)
        if self._holding is not None:
            await asyncio.wait([self._holding])

    async def _hold(self, recipe: WorkerRecipe, engines: Engines, ready: "asyncio.Future[None]") -> None:
        async with recipe.open(engines) as runner:
            self._runner = runner
            ready.set_result(None)
            with rare_collections():
                await self._over.wait()
