"""When sandboxes must go: timers for their time to live and for idling; removes nothing itself."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import TypeAlias

from tumbler.errors import SandboxError

__all__ = ["Lifetimes"]


End: TypeAlias = Callable[[], Coroutine[None, None, None]]


class Lifetimes:
    """One timer for each sandbox and reason."""

    def __init__(self) -> None:
        """Begin with none."""
        self._timers: dict[str, list[asyncio.TimerHandle]] = {}
        self._ends: set[asyncio.Task[None]] = set()

    def expire_at(self, identity: str, expires: float, end: End) -> None:
        """Call `end` at `expires`, seconds since the epoch; replaces what was said before, idling included."""
        self.forget(identity)
        delay = max(0.0, expires - time.time())
        timer = asyncio.get_running_loop().call_later(delay, self.run, end)
        self._timers[identity] = [timer]

    def watch_idling(self, identity: str, limit: float, idle_for: Callable[[], float], end: End) -> None:
        """Call `end` once `idle_for` tells that nothing happened for `limit` seconds."""
        rest = limit - idle_for()
        if rest <= 0:
            self.run(end)
            return
        timer = asyncio.get_running_loop().call_later(rest, self.watch_idling, identity, limit, idle_for, end)
        self._timers[identity] = [*self._timers.get(identity, [])[:1], timer]

    def forget(self, identity: str) -> None:
        """Stop its timers."""
        for timer in self._timers.pop(identity, []):
            timer.cancel()

    async def close(self) -> None:
        """Stop all timers, and wait for the ends that are under way."""
        for identity in tuple(self._timers):
            self.forget(identity)
        await asyncio.gather(*self._ends, return_exceptions=True)

    def run(self, end: End) -> None:
        """Do what has to be done now, in a task of its own that `close` waits for."""
        task = asyncio.get_running_loop().create_task(_quietly(end))
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)


async def _quietly(end: End) -> None:
    with contextlib.suppress(SandboxError):  # the engine is down: the sweep at its return does the work
        await end()
