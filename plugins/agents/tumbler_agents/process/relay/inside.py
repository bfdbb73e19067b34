"""Many connections over one pair of pipes, and the program that a sandbox runs to listen for them.

The program is sent over as this one file and needs a Python of 3.8 or later and nothing else. The other end, outside,
imports the same `Connection` and `Frames`. Every message is a frame with its length in front, so that no byte that
passes means anything. A side sends no more of a connection than the other has granted it room for. Neither end knows
what the connections are about.

A frame is its kind (1 byte), the connection's number (4) and the payload's length (4), the highest byte first:

READY   the program listens; the payload is the port (2 bytes)
OPEN    a client has connected
DATA    a piece of what it says, or is told
END     no more DATA follows in this direction
ABORT   the connection is gone, in both directions
GRANT   the payload (4 bytes) is how much more may be sent; a frame of DATA counts with its head
"""

from __future__ import annotations

import asyncio
import collections
import os
import struct
import sys
from typing import Awaitable, Callable, Iterator  # noqa: UP035  # what a Python of 3.8 knows

__all__ = [
    "ABORT",
    "CONNECTIONS",
    "DATA",
    "END",
    "GRANT",
    "HEAD",
    "OPEN",
    "PIECE",
    "READY",
    "WINDOW",
    "Connection",
    "Frames",
    "Listener",
    "Send",
]

READY, OPEN, DATA, END, ABORT, GRANT = range(6)

HEAD = struct.Struct(">BII")
PIECE = 1 << 14
"""The most bytes of one frame's payload."""
WINDOW = 1 << 16
"""What may be under way in one direction of one connection, in bytes."""
CONNECTIONS = 64
"""So many are served at a time; further ones wait. With `WINDOW`, it bounds the memory of both ends."""

Send = Callable[[int, int, bytes], None]


class Frames:
    """Takes a stream of bytes apart."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Yield the kind, number and payload of each frame that is complete; raise `ValueError` for what is none."""
        self._buffer += data
        position = 0
        while len(self._buffer) - position >= HEAD.size:
            kind, number, length = HEAD.unpack_from(self._buffer, position)
            if kind > GRANT or length > PIECE:
                raise ValueError(f"a frame of kind {kind} and {length} bytes, which no relay sends")
            end = position + HEAD.size + length
            if len(self._buffer) < end:
                break
            yield kind, number, bytes(self._buffer[position + HEAD.size : end])
            position = end
        del self._buffer[:position]


class Connection:
    """One connection: what its socket says goes into frames, and what frames say to its socket."""

    def __init__(self, number: int, send: Send) -> None:
        """Begin with a full window in both directions; `send` takes a frame and never blocks."""
        self.number = number
        self._send = send
        self._credit = WINDOW
        self._inbox: collections.deque[bytes | None] = collections.deque()
        self._waiting = 0
        self._news = asyncio.Event()
        self._granted = asyncio.Event()
        self._gone = asyncio.Event()

    async def run(self, opening: Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
        """Carry bytes until both directions have ended, or one of them breaks."""
        writer = None
        try:
            reader, writer = await opening
            writer.transport.set_write_buffer_limits(high=PIECE)
            await self._carry(reader, writer)
            writer.close()
        except OSError:  # what breaks a connection is told by its end alone, as on any network
            self._break(writer)
        except asyncio.CancelledError:
            self._break(writer)
            raise

    def take(self, kind: int, payload: bytes) -> None:
        """Take in a frame; raise `ValueError` where the other side goes beyond the window."""
        if kind == GRANT:
            self._credit += int.from_bytes(payload, "big")
            if self._credit > WINDOW:
                raise ValueError(f"connection {self.number} was granted more than it has sent")
            self._granted.set()
        elif kind == ABORT:
            self._gone.set()
        else:
            self._waiting += _cost(payload) if kind == DATA else 0
            if self._waiting > WINDOW:
                raise ValueError(f"connection {self.number} has sent more than it was granted")
            self._inbox.append(payload if kind == DATA else None)
            self._news.set()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        both = [asyncio.ensure_future(way) for way in (self._outward(reader), self._inward(writer))]
        ways = [*both, asyncio.ensure_future(self._lost())]
        for way in ways:
            way.add_done_callback(_retrieve)
        try:
            while not all(way.done() for way in both):
                left = [way for way in ways if not way.done()]
                done, _ = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
                for way in done:
                    way.result()
        finally:
            for way in ways:
                way.cancel()

    async def _lost(self) -> None:
        await self._gone.wait()
        raise ConnectionAbortedError("the other end has lost the connection")

    async def _outward(self, reader: asyncio.StreamReader) -> None:
        while True:
            while self._credit <= HEAD.size:
                self._granted.clear()
                await self._granted.wait()
            piece = await reader.read(min(PIECE, self._credit - HEAD.size))
            if not piece:
                self._send(END, self.number, b"")
                return
            self._credit -= _cost(piece)
            self._send(DATA, self.number, piece)

    async def _inward(self, writer: asyncio.StreamWriter) -> None:
        while True:
            while not self._inbox:
                self._news.clear()
                await self._news.wait()
            piece = self._inbox.popleft()
            if piece is None:
                writer.write_eof()
                return
            writer.write(piece)
            await writer.drain()
            self._waiting -= _cost(piece)
            self._send(GRANT, self.number, _cost(piece).to_bytes(4, "big"))

    def _break(self, writer: asyncio.StreamWriter | None) -> None:
        if writer is not None:
            writer.transport.abort()
        if not self._gone.is_set():
            self._gone.set()
            self._send(ABORT, self.number, b"")


def _retrieve(way: asyncio.Future[None]) -> None:
    """Spare the warning about an error beside the one that is raised."""
    if not way.cancelled():
        way.exception()


def _cost(piece: bytes) -> int:
    return HEAD.size + len(piece)


class Listener:
    """The end in the sandbox: it listens on loopback and speaks frames on its standard input and output."""

    def __init__(self) -> None:
        """Begin without connections."""
        self._connections: dict[int, Connection] = {}
        self._places = asyncio.Semaphore(CONNECTIONS)
        self._opened = 0
        self._output: asyncio.WriteTransport | None = None

    async def run(self) -> None:
        """Serve until standard input ends: then nobody is there any more to speak for."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=WINDOW)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
        self._output, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, sys.stdout.buffer)
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=PIECE)
        self._send(READY, 0, server.sockets[0].getsockname()[1].to_bytes(2, "big"))
        frames = Frames()
        while True:
            data = await reader.read(WINDOW)
            if not data:
                return
            for kind, number, payload in frames.feed(data):
                if number in self._connections:
                    self._connections[number].take(kind, payload)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with self._places:
            self._opened += 1
            connection = Connection(self._opened, self._send)
            self._connections[connection.number] = connection
            self._send(OPEN, connection.number, b"")
            try:
                await connection.run(_opened(reader, writer))
            finally:
                del self._connections[connection.number]

    def _send(self, kind: int, number: int, payload: bytes) -> None:
        if self._output is not None:
            self._output.write(HEAD.pack(kind, number, len(payload)) + payload)


async def _opened(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return reader, writer


async def _main() -> None:
    await Listener().run()
    os._exit(0)  # connections are cut off, not waited for


if __name__ == "__main__":
    asyncio.run(_main())
