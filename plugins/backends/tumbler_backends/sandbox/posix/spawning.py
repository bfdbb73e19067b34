"""The books about spawned processes: ids, output, ends; knows not how processes start or die."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

from tumbler.contracts.sandbox_process import OutputSlice, ProcessExit, ProcessInfo, Stream
from tumbler_backends.sandbox.posix.output import OutputRing

__all__ = ["Recorded", "SpawnBook", "SpawnRecord"]

_RETAINED: Final = 256
"""How many ended processes a book keeps."""
_RETAINED_BYTES: Final = 64 << 20
"""How much output of ended processes a book keeps; the latest one stays whatever it said."""


class SpawnRecord:
    """What is known of one process. Backends feed `stdout` and `stderr`, and call `finish` at its end."""

    def __init__(self, exec_id: str, command: Sequence[str], *, max_output: int, tag: str | None = None) -> None:
        """Begin with a process that runs; the last `max_output` bytes of each stream are kept."""
        self.exec_id = exec_id
        self.command = tuple(command)
        self.tag = tag
        self.stdout = OutputRing(max_output)
        self.stderr = OutputRing(max_output)
        self._began = time.perf_counter()
        self._end: asyncio.Future[ProcessExit] = asyncio.get_running_loop().create_future()
        self._end.add_done_callback(_retrieve)

    @property
    def exit(self) -> ProcessExit | None:
        """Return how it ended; None while it runs, or where that will never be known."""
        if not self._end.done() or self._end.exception() is not None:
            return None
        return self._end.result()

    @property
    def ended(self) -> bool:
        """Tell whether it is over."""
        return self._end.done()

    @property
    def kept_bytes(self) -> int:
        """Return how much of its output is kept."""
        return sum(ring.total - ring.start for ring in (self.stdout, self.stderr))

    def seconds(self) -> float:
        """Return how long it has been running."""
        return time.perf_counter() - self._began

    def finish(self, exit_: ProcessExit) -> None:
        """Record the end; the streams end with it. Later calls change nothing."""
        if not self._end.done():
            self._end.set_result(exit_)
        self._close()

    def fail(self, error: Exception) -> None:
        """Record that its end will never be known: `poll` and `wait` raise `error`."""
        if not self._end.done():
            self._end.set_exception(error)
        self._close()

    async def read(self, stream: Stream, *, offset: int, limit: int, timeout: float) -> OutputSlice:
        """Return a piece of a stream; see `tumbler.contracts.sandbox_process.Process.read`."""
        return await self._ring(stream).read(offset=offset, limit=limit, timeout=timeout)

    def follow(self, stream: Stream, *, offset: int) -> AsyncIterator[bytes]:
        """Yield a stream to its end."""
        return self._ring(stream).follow(offset)

    async def poll(self) -> ProcessExit | None:
        """Return how it ended; None while it runs."""
        return self._end.result() if self._end.done() else None

    async def wait(self, timeout: float | None) -> ProcessExit:
        """Wait for its end; raise `TimeoutError` after `timeout` seconds."""
        done, _ = await asyncio.wait((self._end,), timeout=timeout)
        if not done:
            raise TimeoutError(f"the process {self.exec_id!r} is still running after {timeout} s")
        return self._end.result()

    def info(self, pid: int | None) -> ProcessInfo:
        """Describe it."""
        return ProcessInfo(exec_id=self.exec_id, command=self.command, pid=pid, tag=self.tag, exit=self.exit)

    def _ring(self, stream: Stream) -> OutputRing:
        if stream not in ("stdout", "stderr"):
            raise ValueError(f"a process has the streams 'stdout' and 'stderr', not {stream!r}")
        return self.stdout if stream == "stdout" else self.stderr

    def _close(self) -> None:
        self.stdout.end()
        self.stderr.end()


class Recorded(Protocol):
    """A process that a book lists."""

    @property
    def record(self) -> SpawnRecord:
        """Return what is known of it."""
        ...

    @property
    def pid(self) -> int | None:
        """Return its process id, where there is one."""
        ...


Entry = TypeVar("Entry", bound=Recorded)
Result = TypeVar("Result")


class SpawnBook(Generic[Entry]):
    """The spawned processes of one sandbox: each id is started once, ended ones are kept for a while."""

    def __init__(self) -> None:
        """Begin with none."""
        self._starts: dict[str, asyncio.Task[Entry]] = {}
        self._entries: dict[str, Entry] = {}

    async def spawn(self, exec_id: str | None, start: Callable[[str], Awaitable[Entry]]) -> Entry:
        """Return the process of `exec_id`, started by `start` where the id is new; None is a new id.

        The start goes on when the caller is cancelled. One that fails leaves the id free.
        """
        name = exec_id if exec_id is not None else secrets.token_hex(8)
        if name in self._entries:
            return self._entries[name]
        task = self._starts.get(name)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._start(name, start))
            self._starts[name] = task
            task.add_done_callback(_retrieve)
        return await asyncio.shield(task)

    async def get(self, exec_id: str) -> Entry:
        """Return a process; raise `ProcessLookupError` for an id that was never started or is forgotten."""
        if exec_id in self._starts:
            return await asyncio.shield(self._starts[exec_id])
        if exec_id not in self._entries:
            raise ProcessLookupError(f"no process was spawned here as {exec_id!r}, or it ended long ago")
        return self._entries[exec_id]

    def infos(self) -> list[ProcessInfo]:
        """Describe the processes, oldest first."""
        return [entry.record.info(entry.pid) for entry in self._entries.values()]

    def running(self) -> list[Entry]:
        """Return the processes that have not ended."""
        return [entry for entry in self._entries.values() if not entry.record.ended]

    async def settle(self) -> None:
        """Wait until no start is under way."""
        await asyncio.gather(*self._starts.values(), return_exceptions=True)

    async def _start(self, name: str, start: Callable[[str], Awaitable[Entry]]) -> Entry:
        try:
            entry = await start(name)
            self._entries[name] = entry
        finally:
            del self._starts[name]
        self._forget()
        return entry

    def _forget(self) -> None:
        """Forget the processes that ended first, down to the bounds."""
        ended = [(name, entry.record.kept_bytes) for name, entry in self._entries.items() if entry.record.ended]
        surplus = max(0, len(ended) - _RETAINED)
        kept = sum(size for _, size in ended)
        for position, (name, size) in enumerate(ended[:-1]):
            if position >= surplus and kept <= _RETAINED_BYTES:
                return
            del self._entries[name]
            kept -= size


def _retrieve(future: "asyncio.Future[Result]") -> None:
    """Spare the warning about an error that nobody asked for."""
    if not future.cancelled():
        future.exception()
