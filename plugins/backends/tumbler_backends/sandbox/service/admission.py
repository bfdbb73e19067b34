"""Lets a bounded number of creations in at one time, keeps a bounded number waiting, and sends the rest away."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tumbler.errors import SandboxUnavailable

__all__ = ["Admission", "Busy"]


class Busy(SandboxUnavailable):
    """The service has too much to do; `retry_after` says when to come back."""

    retry_after: float

    def __init__(self, message: str, retry_after: float) -> None:
        """Keep the seconds to wait."""
        super().__init__(message)
        self.retry_after = retry_after


class Admission:
    """The door for creations."""

    def __init__(self, *, concurrent: int, queue: int, patience: float) -> None:
        """Let `concurrent` in; up to `queue` wait, each for at most `patience` seconds."""
        self._places = asyncio.Semaphore(concurrent)
        self._queue = queue
        self._patience = patience
        self.waiting = 0
        self.closed = False

    @asynccontextmanager
    async def enter(self) -> AsyncIterator[None]:
        """Wait for a place, hold it, and give it back; raise `Busy` where there is none to be had."""
        self.require_open()
        if self._places.locked() and self.waiting >= self._queue:
            raise self._busy(f"{self.waiting} creations are waiting already")
        self.waiting += 1
        try:
            async with asyncio.timeout(self._patience):
                await self._places.acquire()
        except TimeoutError as error:
            raise self._busy(f"no place was free within {self._patience:g} s") from error
        finally:
            self.waiting -= 1
        try:
            yield
        finally:
            self._places.release()

    def require_open(self) -> None:
        """Raise `Busy` once the service is stopping."""
        if self.closed:
            raise self._busy("it is stopping")

    def _busy(self, reason: str) -> Busy:
        # Clients that were sent away together must not come back together.
        return Busy(f"the service is busy: {reason}", random.uniform(0.5, 2.0) * (1 + self.waiting / 50))
