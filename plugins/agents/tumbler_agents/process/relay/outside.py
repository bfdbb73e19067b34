"""The end of the relay outside of the sandbox: it connects to one address, whatever the program inside asks for."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from tumbler.contracts.sandbox_process import Process
from tumbler.errors import SandboxError
from tumbler_agents.process.relay.inside import (
    ABORT,
    CONNECTIONS,
    HEAD,
    OPEN,
    READY,
    WINDOW,
    Connection,
    Frames,
)

__all__ = ["OUTPUT_BYTES", "Connect", "Relay"]

_LOG = logging.getLogger("tumbler.agents.process")

Connect: TypeAlias = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

OUTPUT_BYTES: Final = 2 * CONNECTIONS * WINDOW
"""Output of the program that a sandbox has to keep: more is never under way."""
_READ_BYTES: Final = 1 << 16
_READ_S: Final = 60.0
_END_S: Final = 5.0
_SAID_BYTES: Final = 2000


class Relay:
    """A running relay. Its memory is bounded by the windows of the connections that may be open at a time."""

    def __init__(self, process: Process, connect: Connect) -> None:
        """Take over the program inside; `connect` opens a connection to the one address."""
        self._process = process
        self._connect = connect
        self._port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._connections: dict[int, Connection] = {}
        self._carrying: set[asyncio.Task[None]] = set()
        self._pending = bytearray()
        self._news = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self.failure = ""
        """Why it ended by itself; empty while it runs."""
        self.accepted = 0
        """Connections that were made inside so far."""

    async def start(self, timeout: float) -> int:
        """Begin to carry, and return the port that is listened on inside.

        Raises `SandboxError` where the program does not come up.
        """
        self._running = asyncio.create_task(self._run())
        first: list[asyncio.Future[Any]] = [self._port, self._running]
        await asyncio.wait(first, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if not self._port.done():
            said = self.failure or f"nothing was heard of it within {timeout:g} s"
            raise SandboxError(f"the relay to the gateway did not start in the sandbox: {said}")
        return self._port.result()

    async def ended(self) -> None:
        """Wait until it carries nothing any more; `failure` tells why."""
        if self._running is not None:
            await asyncio.wait([self._running])

    async def close(self) -> None:
        """End all connections and the program inside. Safe to call twice."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
        # The sandbox may be gone, and the program with it.
        with contextlib.suppress(OSError, SandboxError):
            async with asyncio.timeout(_END_S):
                await self._process.close_stdin()
                await self._process.wait()
        with contextlib.suppress(OSError, SandboxError):
            await self._process.kill()

    async def _run(self) -> None:
        ways = [asyncio.create_task(self._listen()), asyncio.create_task(self._talk())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            self.failure = await self._why(next(way.exception() for way in ways if way.done()))
        finally:
            remaining = [*ways, *self._carrying]
            for task in remaining:
                task.cancel()
            await asyncio.gather(*remaining, return_exceptions=True)

    async def _why(self, error: BaseException | None) -> str:
        """Return why nothing is carried any more: how the program ended, or what went wrong with it."""
        try:
            exit_ = await self._process.wait(0.0 if isinstance(error, ValueError) else _END_S)
            said = await self._process.read("stderr", limit=_SAID_BYTES, timeout=0.0)
        except (OSError, SandboxError):
            return str(error) if error is not None else "its output has ended"
        words = said.data.decode(errors="replace").strip().splitlines()
        return f"the program exited with {exit_.exit_code}" + (f": {words[-1]}" if words else "")

    async def _listen(self) -> None:
        frames, offset = Frames(), 0
        while True:
            piece = await self._process.read("stdout", offset=offset, limit=_READ_BYTES, timeout=_READ_S)
            if piece.offset != offset:
                raise ValueError("the sandbox has thrown away what the relay said before it was read")
            for frame in frames.feed(piece.data):
                self._take(*frame)
            offset += len(piece.data)
            if piece.end:
                return

    async def _talk(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            said, self._pending = bytes(self._pending), bytearray()
            await self._process.write_stdin(said)

    def _take(self, kind: int, number: int, payload: bytes) -> None:
        if kind == READY:
            if not self._port.done():
                self._port.set_result(int.from_bytes(payload, "big"))
        elif kind == OPEN:
            self._accept(number)
        elif number in self._connections:
            self._connections[number].take(kind, payload)

    def _accept(self, number: int) -> None:
        self.accepted += 1
        if number in self._connections or len(self._connections) >= 2 * CONNECTIONS:
            self._send(ABORT, number, b"")
            return
        connection = Connection(number, self._send)
        self._connections[number] = connection
        task = asyncio.create_task(connection.run(self._connect()))
        self._carrying.add(task)
        task.add_done_callback(lambda done: self._forget(number, done))

    def _forget(self, number: int, task: "asyncio.Task[None]") -> None:
        self._carrying.discard(task)
        self._connections.pop(number, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.error("a connection of the relay ended badly", exc_info=error)

    def _send(self, kind: int, number: int, payload: bytes) -> None:
        if len(self._pending) > OUTPUT_BYTES:
            raise ValueError("the relay in the sandbox does not read what it is sent")
        self._pending += HEAD.pack(kind, number, len(payload)) + payload
        self._news.set()
