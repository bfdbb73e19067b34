"""An asyncio event loop on a clock of its own: no wait takes time, but all of them pass on it.

What runs on it must not wait for threads, sockets or processes: the loop knows of timers alone.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["VirtualClockLoop", "run_virtually"]

_Result = TypeVar("_Result")


class _JumpingSelector(selectors.DefaultSelector):
    """Lets the time that a wait would take pass at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready now; where that is nothing, move the clock on by `timeout` seconds."""
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("every task waits for something that no timer will bring")
            self.now += max(timeout, 0.0)
        return ready


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """The loop; its `time()` starts at 0."""

    def __init__(self) -> None:
        """Start the clock."""
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the seconds that have passed in the simulated world."""
        return self._jumping.now


def run_virtually(work: "Coroutine[Any, Any, _Result]") -> tuple[_Result, float]:
    """Run to the end; return the result, and the seconds that it took in the simulated world."""
    loop = VirtualClockLoop()
    try:
        result = loop.run_until_complete(work)
        return result, loop.time()
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
