"""Turn a process into the events of a Start or Connect stream; starts nothing.

A process that says more than its client takes is stopped and goes on later: nothing of its output is lost.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncGenerator
from typing import Final

from tumbler.contracts.sandbox_process import ProcessExit, Stream
from tumbler.errors import SandboxError
from tumbler_backends.sandbox.service.e2b.faults import RpcError
from tumbler_backends.sandbox.service.e2b.framing import Json
from tumbler_backends.sandbox.service.e2b.messages import encoded
from tumbler_backends.sandbox.service.e2b.processes import StartedProcess
from tumbler_backends.sandbox.service.e2b.spool import Spool

__all__ = ["events_of"]

_PIECE_BYTES: Final = 1 << 16
_WAIT_S: Final = 60.0
_DRAIN_S: Final = 2.0
"""How long a background child may hold a stream open after the process has ended."""
_STOP_BYTES: Final = 32 << 20
_GO_BYTES: Final = 8 << 20
_MOST_BYTES: Final = 1 << 30
"""What may wait for a client where the process cannot be stopped."""


async def events_of(started: StartedProcess, *, keepalive: float, deadline: float | None) -> AsyncGenerator[Json, None]:
    """Yield a process's events: its start, its output, and its end.

    Args:
        started: the process; what is told of its output is noted there.
        keepalive: seconds of silence after which a sign of life is sent.
        deadline: seconds after which the stream ends with an error; None is never.
    """
    loop = asyncio.get_running_loop()
    last = None if deadline is None else loop.time() + deadline
    yield {"start": {"pid": started.pid}}
    feed = _Feed(started)
    try:
        while True:
            patience = keepalive if last is None else min(keepalive, max(0.0, last - loop.time()))
            try:
                async with asyncio.timeout(patience):
                    piece = await feed.next_piece()
            except TimeoutError:
                if last is not None and loop.time() >= last:
                    raise RpcError("deadline_exceeded", f"the deadline of {deadline} s has passed") from None
                yield {"keepalive": {}}
                continue
            if piece is None:
                break
            yield {"data": {piece[0]: encoded(piece[1])}}
        yield {"end": _end_of(await feed.ended(), deadline)}
    finally:
        await feed.close()


class _Feed:
    """Reads a process's streams as they come into a spool."""

    def __init__(self, started: StartedProcess) -> None:
        """Begin to read."""
        self._started = started
        self._spool = Spool()
        self._stopped = False
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def next_piece(self) -> tuple[str, bytes] | None:
        """Return the next piece with its stream's name; None at the end."""
        if self._stopped and self._spool.size <= _GO_BYTES:
            await self._go_on()
        return await self._spool.get()

    async def ended(self) -> ProcessExit:
        """Return how the process ended; raise what went wrong meanwhile."""
        return await self._task

    async def close(self) -> None:
        """Stop reading; the process goes on."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._spool.close()
        await self._go_on()

    async def _run(self) -> ProcessExit:
        started = self._started
        readers = [asyncio.create_task(self._read(stream)) for stream in started.streams]
        waiting = asyncio.create_task(started.process.wait())

        def give_up(reader: "asyncio.Task[None]") -> None:
            if not reader.cancelled() and reader.exception() is not None:
                waiting.cancel()

        for reader in readers:
            reader.add_done_callback(give_up)
        try:
            await asyncio.wait((waiting,))
            await self._drain(readers)
            return waiting.result()
        finally:
            for task in (waiting, *readers):
                task.cancel()
            await asyncio.gather(waiting, *readers, return_exceptions=True)
            self._spool.end()

    async def _drain(self, readers: "list[asyncio.Task[None]]") -> None:
        """Wait for the ends of the streams as long as something comes."""
        told: dict[Stream, int] = {}
        while told != self._started.offsets:
            told = dict(self._started.offsets)
            done, waiting = await asyncio.wait(readers, timeout=_DRAIN_S)
            for reader in done:
                reader.result()
            if not waiting:
                return

    async def _read(self, stream: Stream) -> None:
        started = self._started
        name = "pty" if started.terminal else stream
        while True:
            offset = started.offsets[stream]
            piece = await started.process.read(stream, offset=offset, limit=_PIECE_BYTES, timeout=_WAIT_S)
            if piece.offset != offset:
                lost = piece.offset - offset
                raise RpcError("data_loss", f"{lost} bytes of {stream} came faster than they could be read")
            if piece.data:
                self._spool.put(name, piece.data)
            started.offsets[stream] = piece.offset + len(piece.data)
            if piece.end:
                return
            if self._spool.size > _STOP_BYTES:
                await self._hold_on()

    async def _hold_on(self) -> None:
        if self._spool.size > _MOST_BYTES:
            raise RpcError("resource_exhausted", f"more than {_MOST_BYTES} bytes of output wait for the client")
        # A terminal's shell would take this for Ctrl-Z.
        if not self._stopped and not self._started.terminal:
            self._stopped = True
            await self._started.process.signal(signal.SIGSTOP)

    async def _go_on(self) -> None:
        if self._stopped:
            self._stopped = False
            with contextlib.suppress(SandboxError):  # it is gone, and so is the process
                await self._started.process.signal(signal.SIGCONT)


def _end_of(ended: ProcessExit, deadline: float | None) -> Json:
    if ended.timed_out:
        raise RpcError("deadline_exceeded", f"the process was killed at its deadline of {deadline} s")
    if ended.signal is None:
        return {"exitCode": ended.exit_code, "exited": True, "status": f"exit status {ended.exit_code}"}
    status = f"signal: {_words(ended.signal)}"
    return {"exitCode": -1, "exited": False, "status": status, "error": status}


def _words(number: int) -> str:
    return (signal.strsignal(number) or f"signal {number}").lower()
