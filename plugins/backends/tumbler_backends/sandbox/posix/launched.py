"""One process started through a cloud, as `tumbler.contracts.sandbox_process.Process`; knows no cloud."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from tumbler.contracts.sandbox_process import OutputSlice, ProcessExit, Stream, TerminalSize
from tumbler.errors import CapabilityError
from tumbler_backends.sandbox.posix.cloud import CloudProcess
from tumbler_backends.sandbox.posix.spawning import SpawnRecord
from tumbler_backends.sandbox.posix.tree import kill_words, signal_words

__all__ = ["LaunchRecord", "LaunchedProcess"]

_DEATH_S: Final = 10.0
"""How long a cloud may take to tell of the end of a process that was killed."""
_KILLED: Final = ProcessExit(exit_code=137, signal=9)

Run = Callable[[Sequence[str]], Awaitable[None]]
"""Runs a short command in the same sandbox to its end, within a bound of its own."""


class LaunchRecord(SpawnRecord):
    """A record that knows whether the process ended because its time was over."""

    timed_out = False

    def finish(self, exit_: ProcessExit) -> None:
        """Record the end, with the time it took."""
        super().finish(replace(exit_, timed_out=self.timed_out, duration=self.seconds()))


class LaunchedProcess:
    """A running or ended process, and all that it started."""

    def __init__(self, record: LaunchRecord, process: CloudProcess, tree: str, run: Run, *, stdin: bool) -> None:
        """Take over what a cloud started; `tree` marks its processes."""
        self.record = record
        self._process = process
        self._tree = tree
        self._run = run
        self._stdin = stdin
        self._killing: asyncio.Task[None] | None = None

    @property
    def exec_id(self) -> str:
        """Return the id it was started under."""
        return self.record.exec_id

    @property
    def pid(self) -> int | None:
        """Return the process id inside, where the cloud tells it."""
        return self._process.pid

    async def read(
        self, stream: Stream = "stdout", *, offset: int = 0, limit: int = 1 << 16, timeout: float = 60.0
    ) -> OutputSlice:
        """Return what the stream holds from byte `offset` on."""
        return await self.record.read(stream, offset=offset, limit=limit, timeout=timeout)

    def follow(self, stream: Stream = "stdout", *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield the stream from byte `offset` on until it ends."""
        return self.record.follow(stream, offset=offset)

    async def write_stdin(self, data: bytes) -> None:
        """Send bytes to its standard input."""
        if not self._stdin or self.record.ended:
            raise BrokenPipeError(f"the process {self.exec_id!r} reads no input: it has ended, or its stdin is closed")
        await self._process.write(data)

    async def close_stdin(self) -> None:
        """End its standard input. Safe to call twice."""
        if self._stdin and not self.record.ended:
            self._stdin = False
            await self._process.close_stdin()

    async def signal(self, number: int) -> None:
        """Send a signal to it and its children; does nothing once it has ended."""
        if not self.record.ended:
            await self._run(signal_words(self._tree, number))

    async def resize(self, size: TerminalSize) -> None:
        """Refuse: there is no terminal."""
        raise CapabilityError(f"the process {self.exec_id!r} has no terminal: this backend offers none")

    async def poll(self) -> ProcessExit | None:
        """Return how it ended; None while it runs."""
        return await self.record.poll()

    async def wait(self, timeout: float | None = None) -> ProcessExit:
        """Wait for its end; raises `TimeoutError` after `timeout` seconds and leaves it running."""
        return await self.record.wait(timeout)

    async def kill(self, grace: float = 1.0) -> ProcessExit:
        """End it and all its children: SIGTERM, `grace` seconds, SIGKILL. Safe to call twice."""
        if not self.record.ended:
            await self.kill_tree(grace)
        return await self.record.wait(None)

    async def kill_tree(self, grace: float) -> None:
        """End all that it started, also after its own end. Goes on when the caller is cancelled."""
        if self._killing is None or self._killing.done():
            self._killing = asyncio.get_running_loop().create_task(self._kill_tree(grace))
        await asyncio.shield(self._killing)

    async def abandon(self) -> None:
        """Stop reading what it says."""
        await self._process.abandon()

    async def _kill_tree(self, grace: float) -> None:
        await self._run(kill_words(self._tree, grace))
        try:
            await self.record.wait(_DEATH_S)
        except TimeoutError:  # the cloud does not tell of it
            self.record.finish(_KILLED)
