"""Places for rollouts: so many at a time, and who gets the next one. Knows no rollout."""

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

__all__ = ["Places", "Standing"]


@dataclass(eq=False)
class Standing:
    """Where those who belong together stand in the queue: the lowest rank first, then who has least left to do."""

    rank: int
    left: int
    """How many of them have not finished; `Places.finished` keeps it up to date."""


@dataclass
class _Queue:
    """Those of one standing who wait."""

    came: int
    """Which of the queues it was in the order of their beginnings."""
    granted: deque["asyncio.Future[None]"] = field(default_factory=deque)


class Places:
    """Holds a number of places; one that is given back goes to whoever stands first at that moment."""

    def __init__(self, count: int) -> None:
        """Offer `count` places."""
        self._free = count
        self._waiting: dict[Standing, _Queue] = {}
        self._numbers = itertools.count()
        # Thousands may wait, so the first is not looked for among all. What is out of date is passed over.
        self._order: list[tuple[int, int, int, int, Standing]] = []

    @asynccontextmanager
    async def hold(self, standing: Standing) -> AsyncIterator[None]:
        """Wait for a place and hold it while the block runs."""
        await self._take(standing)
        try:
            yield
        finally:
            self._give()

    def finished(self, standing: Standing) -> None:
        """Take note that one of that standing has finished."""
        standing.left -= 1
        if standing in self._waiting:
            self._line_up(standing)

    async def _take(self, standing: Standing) -> None:
        if self._free:
            self._free -= 1
            return
        granted = asyncio.get_running_loop().create_future()
        if standing not in self._waiting:
            self._waiting[standing] = _Queue(came=next(self._numbers))
            self._line_up(standing)
        self._waiting[standing].granted.append(granted)
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self._give()
            else:
                self._leave(standing, granted)
            raise

    def _leave(self, standing: Standing, granted: "asyncio.Future[None]") -> None:
        queue = self._waiting.get(standing)
        if queue is not None and granted in queue.granted:
            queue.granted.remove(granted)
            if not queue.granted:
                del self._waiting[standing]

    def _give(self) -> None:
        """Hand the place on; those of equal standing are served in the order in which they came."""
        while (first := self._first()) is not None:
            queue = self._waiting[first]
            granted = queue.granted.popleft()
            if not queue.granted:
                del self._waiting[first]
            if not granted.done():  # who was cancelled has not left the queue yet
                granted.set_result(None)
                return
        self._free += 1

    def _first(self) -> Standing | None:
        """Return who stands first of those who wait."""
        while self._order:
            _, left, came, _, standing = self._order[0]
            queue = self._waiting.get(standing)
            if queue is not None and queue.came == came and standing.left == left:
                return standing
            heapq.heappop(self._order)
        return None

    def _line_up(self, standing: Standing) -> None:
        came = self._waiting[standing].came
        heapq.heappush(self._order, (standing.rank, standing.left, came, next(self._numbers), standing))
