"""Which rollouts are in flight, since when, and how one is given up from outside. Runs none by itself."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from time import monotonic

from tumbler.trajectory.record import Trajectory

__all__ = ["Flight", "Flights", "GivenUp"]


class GivenUp(Exception):
    """A rollout was given up while it ran; its next attempt may begin."""


@dataclass(eq=False, kw_only=True)
class Flight:
    """One attempt at a rollout."""

    id: str
    begun: float
    """`time.monotonic()` when it was submitted."""
    task: "asyncio.Future[Trajectory]"
    reason: str = ""
    """Why it was given up."""


class Flights:
    """The attempts that an execution backend works on."""

    def __init__(self) -> None:
        """Begin with none."""
        self._flights: dict[str, Flight] = {}

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._flights)

    def oldest_first(self) -> Sequence[Flight]:
        """Return what is in flight."""
        return sorted(self._flights.values(), key=lambda flight: flight.begun)

    async def follow(self, rollout: str, work: "Awaitable[Trajectory]") -> Trajectory:
        """Wait for an attempt; raises `GivenUp`, when it has cleaned up, where it was given up meanwhile."""
        flight = Flight(id=rollout, begun=monotonic(), task=asyncio.ensure_future(work))
        self._flights[rollout] = flight
        try:
            return await flight.task
        except asyncio.CancelledError:
            waiting = asyncio.current_task()
            if flight.reason and not (waiting is not None and waiting.cancelling()):
                raise GivenUp(flight.reason) from None
            raise
        finally:
            del self._flights[rollout]

    def give_up(self, seconds: float, reason: str) -> int:
        """Give up every attempt that has been in flight for so long, and return how many these are."""
        now = monotonic()
        late = [flight for flight in self._flights.values() if now - flight.begun >= seconds and not flight.reason]
        for flight in late:
            flight.reason = reason
            flight.task.cancel()
        return len(late)
