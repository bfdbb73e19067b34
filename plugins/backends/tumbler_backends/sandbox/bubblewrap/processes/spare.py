"""A process that is started ahead of the next command, while commands come in quick succession."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from tumbler_backends.sandbox.bubblewrap.processes.process import BubblewrapProcess

__all__ = ["Spare"]

_QUICK_S: Final = 0.1
"""Commands that follow each other faster than this get a spare one."""
_IDLE_S: Final = 0.25
"""How long a spare one waits for a command: an idle sandbox has no process."""


class Spare:
    """At most one bwrap whose namespaces and mounts stand, and which stands still before its first program.

    Nothing of the sandbox has run in it and nothing has been charged to the sandbox: that begins when it is taken.
    """

    def __init__(self, start: Callable[[], Awaitable[BubblewrapProcess]]) -> None:
        """Keep what starts one."""
        self._start = start
        self._process: BubblewrapProcess | None = None
        self._starting: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._last_use = -_QUICK_S

    @property
    def waits(self) -> bool:
        """Tell whether there is one."""
        return self._process is not None

    def take(self) -> BubblewrapProcess | None:
        """Return the spare process, which is the caller's from now on; None where there is none."""
        process, self._process = self._process, None
        if self._timer is not None:
            self._timer.cancel()
        return process if process is not None and not process.exited.done() else None

    def prepare(self) -> None:
        """Take note of a command; start a spare process once this turn of the loop is over, if one came just before."""
        now = time.perf_counter()
        quick, self._last_use = now - self._last_use < _QUICK_S, now
        if quick and self._process is None and self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._fill())

    def drop(self) -> None:
        """Kill it. Safe to call twice."""
        if (process := self.take()) is not None:
            process.kill()

    async def _fill(self) -> None:
        try:
            self._process = await self._start()
        except Exception:  # noqa: BLE001 - the next command meets the same error, and tells it to its caller
            return
        finally:
            self._starting = None
        self._timer = asyncio.get_running_loop().call_later(_IDLE_S, self.drop)
