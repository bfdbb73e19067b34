"""One process as Modal's client sees it, read into a record; knows no sandbox."""

import asyncio
import contextlib
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Final

from modal import exception as modal_errors
from modal.container_process import ContainerProcess

from tumbler.contracts.sandbox_process import ProcessExit
from tumbler.errors import SandboxUnavailable
from tumbler_backends.sandbox.modal.failures import FAILURES, GONE, calling
from tumbler_backends.sandbox.posix.command import signal_of
from tumbler_backends.sandbox.posix.output import OutputRing
from tumbler_backends.sandbox.posix.spawning import SpawnRecord

__all__ = ["ModalProcess"]

_DRAIN_S: Final = 10.0
"""How long output may take to arrive after a process's end: its children may hold the streams open for ever."""
_PIECE: Final = 1 << 20
_UNREAD = (BrokenPipeError, *GONE, modal_errors.InvalidError)
"""What Modal answers for the stdin of a process that has ended, or closed it."""


class ModalProcess:
    """A running process; keeps `tumbler_backends.sandbox.posix.cloud.CloudProcess`."""

    def __init__(
        self,
        process: ContainerProcess[bytes],
        record: SpawnRecord,
        request_timeout: float,
        diagnose: Callable[[BaseException], Awaitable[Exception]],
    ) -> None:
        """Begin to read; `diagnose` says what it means that Modal knows the process no more."""
        self.record = record
        self._process = process
        self._request_timeout = request_timeout
        self._diagnose = diagnose
        self._turn = asyncio.Lock()
        self.task = asyncio.get_running_loop().create_task(self._follow())

    @property
    def pid(self) -> int | None:
        """Return None: Modal tells no process ids."""
        return None

    async def write(self, data: bytes) -> None:
        """Send bytes to stdin, in the order of the calls."""
        async with self._turn:
            for start in range(0, len(data), _PIECE):
                self._process.stdin.write(data[start : start + _PIECE])
                await self._drain()

    async def close_stdin(self) -> None:
        """End stdin."""
        async with self._turn:
            self._process.stdin.write_eof()
            with contextlib.suppress(BrokenPipeError):
                await self._drain()

    async def abandon(self) -> None:
        """Stop reading what it says."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def _drain(self) -> None:
        if self.record.ended:
            raise BrokenPipeError(f"the process {self.record.exec_id!r} has ended")
        try:
            async with calling("write to a process", self._request_timeout):
                try:
                    await self._process.stdin.drain.aio()
                except _UNREAD as error:
                    raise _Unread from error
        except _Unread:
            raise BrokenPipeError(f"the process {self.record.exec_id!r} reads no input") from None

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        reading = [
            loop.create_task(_read(self._process.stdout, self.record.stdout)),
            loop.create_task(_read(self._process.stderr, self.record.stderr)),
        ]
        try:
            code = await self._process.wait.aio()
            await asyncio.wait(reading, timeout=_DRAIN_S)
            self.record.finish(ProcessExit(exit_code=code, signal=signal_of(code)))
        except FAILURES as error:
            self.record.fail(await self._diagnose(error))
        finally:
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)


class _Unread(SandboxUnavailable):
    """Nobody reads what is sent."""


async def _read(stream: AsyncIterable[bytes], ring: OutputRing) -> None:
    async for piece in stream:
        ring.feed(piece)
    ring.end()
