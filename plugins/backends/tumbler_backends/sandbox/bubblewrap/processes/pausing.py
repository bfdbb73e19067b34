"""Whether a sandbox is paused, and time that stands still meanwhile; knows no process."""

import asyncio
import time
from typing import TypeVar

__all__ = ["PauseClock"]

Result = TypeVar("Result")


class PauseClock:
    """A clock that runs only while the sandbox does."""

    def __init__(self) -> None:
        """Begin with a sandbox that runs."""
        self._paused_at: float | None = None
        self._lost = 0.0
        self._resumption: asyncio.Future[None] | None = None

    @property
    def paused(self) -> bool:
        """Tell whether the sandbox is paused."""
        return self._paused_at is not None

    def now(self) -> float:
        """Return the seconds that have passed, pauses not counted."""
        return (self._paused_at if self._paused_at is not None else time.perf_counter()) - self._lost

    def pause(self) -> None:
        """Stop the clock."""
        if self._paused_at is None:
            self._paused_at = time.perf_counter()
            self._resumption = asyncio.get_running_loop().create_future()

    def resume(self) -> None:
        """Let the clock go on."""
        if self._paused_at is not None:
            self._lost += time.perf_counter() - self._paused_at
            self._paused_at = None
        if self._resumption is not None and not self._resumption.done():
            self._resumption.set_result(None)

    async def resumed(self, timeout: float) -> bool:
        """Wait until the sandbox runs, at most `timeout` seconds; tell whether it does."""
        if self._resumption is not None and self.paused:
            await asyncio.wait((self._resumption,), timeout=timeout)
        return not self.paused

    async def within(self, future: "asyncio.Future[Result]", timeout: float | None) -> bool:
        """Wait for `future` at most `timeout` seconds of this clock; tell whether it is done."""
        if timeout is None:
            await asyncio.wait((future,))
            return True
        deadline = self.now() + timeout
        while not future.done() and (left := deadline - self.now()) > 0:
            if self._resumption is not None and self.paused:
                await asyncio.wait((future, self._resumption), return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.wait((future,), timeout=left)
        return future.done()
