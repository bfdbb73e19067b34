"""Deals rollouts to workers that may die: to the one with fewest in flight, and again when its worker is gone.

Knows no process and no cluster: what a worker is, its backend says.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tumbler.contracts.execution import RolloutRequest
from tumbler.errors import RunError
from tumbler.trajectory.record import Trajectory

__all__ = ["EpisodeWorker", "WorkerLost", "WorkerPool"]

_LOG = logging.getLogger("tumbler.execution")
_NAMED = 10
"""Rollouts that a message names."""


class WorkerLost(RunError):
    """A worker is gone, and with it what it had not finished; the message says all that is known of its end."""


class EpisodeWorker(Protocol):
    """A process for episodes, used once: one that takes its place is another object."""

    async def start(self) -> None:
        """Start it and make it ready; raises what made that impossible, and leaves nothing behind then."""
        ...

    async def run(self, request: RolloutRequest) -> Trajectory:
        """Run one episode; raise `WorkerLost` if the worker is gone before it is finished."""
        ...

    async def stop(self) -> None:
        """Cancel its episodes, wait until they have cleaned up, and end it, one that is gone too."""
        ...


@dataclass(eq=False)
class _Place:
    """A place in the pool: its worker, or the attempt to get another one."""

    index: int
    worker: EpisodeWorker | None = None
    revival: "asyncio.Task[None] | None" = None
    in_flight: set[str] = field(default_factory=set)
    """Rollouts."""


class WorkerPool:
    """As many workers as there are places; one that dies is replaced for as long as `restarts` last."""

    def __init__(self, make: Callable[[int], EpisodeWorker], *, workers: int, room: int, restarts: int) -> None:
        """Make workers with `make(place)`, each for `room` rollouts at a time; `restarts` are for all together."""
        self._make = make
        self._places = [_Place(index) for index in range(workers)]
        self._room = room
        self._restarts = restarts
        self._restarted = 0
        self._closed = False
        self._last: Exception | None = None
        self._changed = asyncio.Condition()

    def health(self) -> Mapping[str, float]:
        """Return gauges."""
        return {
            "in_flight": float(sum(len(place.in_flight) for place in self._places)),
            "workers": float(sum(place.worker is not None for place in self._places)),
            "restarts": float(self._restarted),
        }

    async def start(self) -> None:
        """Start a worker for each place; the first error of one stops all of them."""
        workers = [self._make(place.index) for place in self._places]
        results = await asyncio.gather(*(worker.start() for worker in workers), return_exceptions=True)
        for place, worker, result in zip(self._places, workers, results, strict=True):
            place.worker = worker if result is None else None
        errors = [result for result in results if isinstance(result, BaseException)]
        if errors:
            await self.close()
            raise errors[0]

    async def submit(self, request: RolloutRequest) -> Trajectory:
        """Run the rollout to its end on one worker after the other, until one of them lives long enough."""
        while True:
            place, worker = await self._free()
            place.in_flight.add(request.id)
            try:
                return await worker.run(request)
            except WorkerLost as error:
                self._bury(place, worker, error)
            finally:
                place.in_flight.discard(request.id)
                await self._tell()

    async def close(self) -> None:
        """Stop every worker and all attempts to get new ones."""
        self._closed = True
        revivals = [place.revival for place in self._places if place.revival is not None]
        for revival in revivals:
            revival.cancel()
        await asyncio.gather(*revivals, return_exceptions=True)
        workers = [place.worker for place in self._places if place.worker is not None]
        for place in self._places:
            place.worker = None
        results = await asyncio.gather(*(worker.stop() for worker in workers), return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                _LOG.warning("a worker did not stop as it should: %s", result)
        await self._tell()

    async def _free(self) -> tuple[_Place, EpisodeWorker]:
        """Return the place with fewest rollouts in flight and its worker, as soon as one has room."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._best() is not None or self._hopeless)
        best = self._best()
        if best is not None:
            return best
        if self._closed:
            raise RunError("the execution backend is closed, or was never started, and runs no rollout")
        raise RunError(
            f"every worker for episodes has died, and {self._restarted} of them were replaced, which is the bound "
            f"(`restarts` of the execution backend). The last one: {self._last}"
        ) from self._last

    @property
    def _hopeless(self) -> bool:
        return self._closed or not any(place.worker or place.revival for place in self._places)

    def _best(self) -> tuple[_Place, EpisodeWorker] | None:
        free = [(place, place.worker) for place in self._places if place.worker and len(place.in_flight) < self._room]
        return min(free, key=lambda each: len(each[0].in_flight), default=None)

    def _bury(self, place: _Place, worker: EpisodeWorker, error: WorkerLost) -> None:
        """Note that the worker is gone, the first time that somebody says so, and get another one."""
        if place.worker is not worker:
            return
        unfinished = sorted(place.in_flight)
        shown = ", ".join(unfinished[:_NAMED]) + (", ..." if len(unfinished) > _NAMED else "")
        _LOG.warning("%s; its unfinished rollouts run again: %s", error, shown)
        self._last = RunError(f"{error}\nunfinished then: {shown}")
        place.worker = None
        if not self._closed:
            place.revival = asyncio.ensure_future(self._revive(place, worker))

    async def _revive(self, place: _Place, dead: EpisodeWorker) -> None:
        try:
            with contextlib.suppress(Exception):  # nothing is left to stop but what its backend holds for it
                await dead.stop()
            while self._restarted < self._restarts and place.worker is None:
                self._restarted += 1
                place.worker = await self._started(place)
        finally:
            place.revival = None
            await self._tell()

    async def _started(self, place: _Place) -> EpisodeWorker | None:
        worker = self._make(place.index)
        try:
            await worker.start()
        except Exception as error:  # noqa: BLE001  # guards the pool against whatever a recipe or a cluster raises
            _LOG.warning("worker %d could not be replaced: %s", place.index, error)
            self._last = error
            return None
        return worker

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()
