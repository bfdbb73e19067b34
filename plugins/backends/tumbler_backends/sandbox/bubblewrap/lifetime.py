"""When a sandbox's time is over: its time to live, and its time without use; knows no sandbox."""

import asyncio
import time
from collections.abc import Callable

__all__ = ["Lifetime"]


class Lifetime:
    """One timer for both limits; `end` is called once, with the reason, when the first is reached."""

    def __init__(
        self, expires: float, idle_ttl: float | None, *, last_use: Callable[[], float], end: Callable[[str], None]
    ) -> None:
        """Start the clock in the running loop.

        Args:
            expires: seconds since the epoch.
            idle_ttl: seconds; None is no limit.
            last_use: returns when the sandbox was last used, on the monotonic clock; `inf` while it is in use.
            end: takes the reason.
        """
        self._loop = asyncio.get_running_loop()
        self.expires = expires
        self._idle_ttl = idle_ttl
        self._last_use = last_use
        self._end = end
        self._timer = self._loop.call_later(self._wait(), self._check)

    def extend(self, expires: float) -> None:
        """Set the end of the time to live anew."""
        self.expires = expires
        self._timer.cancel()
        self._timer = self._loop.call_later(self._wait(), self._check)

    def cancel(self) -> None:
        """Stop the clock."""
        self._timer.cancel()

    def _wait(self) -> float:
        left = self.expires - time.time()
        if self._idle_ttl is not None:
            idle = max(0.0, time.monotonic() - self._last_use())
            left = min(left, self._idle_ttl - idle)
        return max(0.0, left)

    def _check(self) -> None:
        if time.time() >= self.expires:
            self._end("its time to live is over")
        elif self._idle_ttl is not None and time.monotonic() - self._last_use() >= self._idle_ttl:
            self._end(f"nobody used it for {self._idle_ttl:g} s")
        else:
            # A timer may come a little early by the other clock.
            self._timer = self._loop.call_later(max(self._wait(), 0.001), self._check)
