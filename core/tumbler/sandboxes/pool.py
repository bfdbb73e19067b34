"""A pool of sandboxes that are ready before they are needed; works on any backend."""

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from tumbler.contracts.sandbox import Sandbox, SandboxBackend, SandboxSpec
from tumbler.errors import CapabilityError, QuotaExceeded, SandboxError, SandboxUnavailable

__all__ = ["PoolCounts", "SandboxPool"]

_LOG = logging.getLogger("tumbler.sandboxes")
_FIRST_BACK_OFF_S: Final = 0.2
_LONGEST_BACK_OFF_S: Final = 30.0


@dataclass(frozen=True, kw_only=True)
class PoolCounts:
    """What a pool holds and did."""

    ready: int
    lent: int
    starting: int
    waiting: int
    """Callers of `acquire` that have none yet."""
    served: int
    failed_starts: int
    found_dead: int
    """Sandboxes that had died before they were lent."""


class SandboxPool:
    """Keeps `minimum` sandboxes of one spec ready and has at most `maximum` at a time.

    Each is lent once and deleted afterwards, so that nothing passes from one user to the next. Use it as an
    asynchronous context manager, or call `start` and `close`; the backend must be started.
    """

    def __init__(self, backend: SandboxBackend, spec: SandboxSpec, *, minimum: int = 1, maximum: int = 16) -> None:
        """Plan the pool; nothing is started. Raises `ValueError` for a spec that only one sandbox can have."""
        if not 0 <= minimum <= maximum or maximum < 1:
            raise ValueError(f"a pool needs 0 <= minimum <= maximum and maximum >= 1, not {minimum} and {maximum}")
        if spec.name is not None or spec.idempotency_key is not None:
            raise ValueError("a pool's spec can have neither name nor idempotency_key: they belong to one sandbox")
        self._backend, self._spec = backend, spec
        self._minimum, self._maximum = minimum, maximum
        self._ready: deque[Sandbox] = deque()
        self._waiting: deque[asyncio.Future[Sandbox]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._handed = 0
        self._lent = self._starting = self._served = self._failed_starts = self._found_dead = 0
        self._back_off = 0.0
        self._last_error: Exception | None = None
        self._closed = True

    async def __aenter__(self) -> Self:
        """Start filling."""
        self.start()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Close."""
        await self.close()

    def start(self) -> None:
        """Begin to fill the pool in the background."""
        self._closed = False
        self._fill()

    @asynccontextmanager
    async def acquire(self, *, timeout: float = 60.0) -> AsyncIterator[Sandbox]:
        """Lend a living sandbox and delete it at the end of the block.

        Raises `QuotaExceeded` when none is free within `timeout` seconds because `maximum` are lent, and
        `SandboxUnavailable` when none could be started; what the last start said is its cause.
        """
        sandbox = await self._take(timeout)
        self._served += 1
        try:
            yield sandbox
        finally:
            try:
                await sandbox.delete()
            finally:
                self._lent -= 1
                self._fill()

    @property
    def counts(self) -> PoolCounts:
        """Return what the pool holds and did."""
        return PoolCounts(
            ready=len(self._ready),
            lent=self._lent,
            starting=self._starting,
            waiting=len(self._waiting),
            served=self._served,
            failed_starts=self._failed_starts,
            found_dead=self._found_dead,
        )

    async def drain(self) -> None:
        """Delete the sandboxes that are ready, and start no more until `start` is called; those lent live on."""
        self._closed = True
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        ready, self._ready = self._ready, deque()
        await asyncio.gather(*(sandbox.delete() for sandbox in ready))

    async def close(self) -> None:
        """Drain, and refuse those who wait."""
        await self.drain()
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(SandboxUnavailable("the pool of sandboxes was closed"))
        self._waiting.clear()

    async def _take(self, timeout: float) -> Sandbox:
        if self._closed:
            raise SandboxUnavailable("the pool of sandboxes is not started, or was closed")
        try:
            async with asyncio.timeout(timeout):
                while True:
                    sandbox = self._ready.popleft() if self._ready else await self._wait()
                    if await self._found_alive(sandbox):
                        return sandbox
        except TimeoutError:
            raise self._refusal(timeout) from self._last_error

    async def _found_alive(self, sandbox: Sandbox) -> bool:
        """Count a sandbox as lent if it lives; delete it if it does not, and give it back if nobody waits any more."""
        self._lent += 1
        self._fill()
        try:
            if await sandbox.alive():
                return True
            await sandbox.delete()
        except SandboxError as error:
            _LOG.warning("a sandbox of the pool could not be asked or deleted: %s", error)
        except BaseException:
            self._lent -= 1
            self._hand_out(sandbox)
            raise
        self._lent -= 1
        self._found_dead += 1
        self._fill()
        return False

    async def _wait(self) -> Sandbox:
        waiter: asyncio.Future[Sandbox] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._fill()
        try:
            sandbox = await waiter
        except asyncio.CancelledError:
            # It may have been handed over in the very moment of the cancellation.
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._handed -= 1
                self._hand_out(waiter.result())
            raise
        finally:
            with suppress(ValueError):
                self._waiting.remove(waiter)
        self._handed -= 1
        return sandbox

    def _refusal(self, timeout: float) -> SandboxError:
        held = self.counts
        if self._last_error is not None:
            return SandboxUnavailable(f"no sandbox could be started within {timeout:g} s: {self._last_error}")
        return QuotaExceeded(
            f"no sandbox was free within {timeout:g} s: {held.lent} of at most {self._maximum} are lent, "
            f"{held.starting} are starting, {held.waiting} other callers wait"
        )

    def _fill(self) -> None:
        """Start as many sandboxes as are wanted and allowed."""
        while not self._closed:
            wanted = self._minimum + len(self._waiting) - len(self._ready) - self._starting
            room = self._maximum - self._lent - self._handed - len(self._ready) - self._starting
            if min(wanted, room) <= 0:
                return
            self._starting += 1
            task = asyncio.get_running_loop().create_task(self._start_one())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _start_one(self) -> None:
        try:
            if self._back_off:
                # All starts of a burst would come back at the same moment otherwise.
                await asyncio.sleep(self._back_off * random.uniform(0.5, 1.5))
            sandbox = await self._backend.create(self._spec)
        except CapabilityError as error:
            self._starting -= 1
            self._refuse_all(error)
        # The backend may be a plugin's: whatever it raises is told to whoever waits, and tried again.
        except Exception as error:  # noqa: BLE001  # see above
            self._starting -= 1
            self._failed_starts += 1
            self._last_error = error
            self._back_off = min(max(2 * self._back_off, _FIRST_BACK_OFF_S), _LONGEST_BACK_OFF_S)
            _LOG.warning("a sandbox of the pool could not be started: %s", error)
            self._fill()
        except BaseException:
            self._starting -= 1
            raise
        else:
            self._starting -= 1
            self._back_off, self._last_error = 0.0, None
            self._hand_out(sandbox)

    def _hand_out(self, sandbox: Sandbox) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                self._handed += 1
                waiter.set_result(sandbox)
                return
        self._ready.append(sandbox)

    def _refuse_all(self, error: Exception) -> None:
        """Pass on an error that will not go away."""
        self._last_error = error
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(error)
        self._waiting.clear()
