"""Carry bytes between two connections, each way with bounded buffers; knows no addresses and no policy."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Final

__all__ = ["Pipe", "PipeEnd", "reset"]

_HIGH_WATER_BYTES: Final = 1 << 18
_HALF_CLOSED_S: Final = 300.0
_RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)


class PipeEnd(asyncio.Protocol):
    """One connection. Before a `Pipe` joins it to another, it reads nothing, or keeps the little it reads."""

    def __init__(self, made: Callable[["PipeEnd"], None] | None = None) -> None:
        """Call `made` once connected."""
        self._made = made
        self._pipe: Pipe | None = None
        self.other: PipeEnd | None = None
        self.transport: asyncio.Transport | None = None
        self._early = b""
        self.received = 0
        """Bytes that came in here."""
        self.ended = False
        """Whether the peer sends no more."""
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hold the connection still."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.pause_reading()
        transport.set_write_buffer_limits(_HIGH_WATER_BYTES)
        if self._made is not None:
            self._made(self)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on."""
        self.received += len(data)
        if self.other is None:
            self._keep(data)
        elif self.other.transport is not None and not self.other.lost:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        """Pass the end on; the way back stays open."""
        self.ended = True
        if self._pipe is not None:
            self._pipe.half_closed(self)
        return True

    def pause_writing(self) -> None:
        """Let the other side wait until this one has taken what there is."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """Undo `pause_writing`."""
        if self.other is not None and self.other.transport is not None and not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the other side along."""
        self.lost = True
        if self._pipe is not None:
            self._pipe.lost(exc)

    def join(self, pipe: "Pipe", other: "PipeEnd") -> None:
        """Start to carry bytes to `other`."""
        self._pipe, self.other = pipe, other
        if self._early and other.transport is not None:
            other.transport.write(self._early)
            self._early = b""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def _keep(self, data: bytes) -> None:
        """Keep what came although reading was paused: before 3.11.4 a pause at the very start is forgotten."""
        self._early += data
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()
            self.transport.pause_reading()


class Pipe:
    """Two joined connections; `done` is called once when both are over."""

    def __init__(self, inner: PipeEnd, outer: PipeEnd, done: Callable[[], None]) -> None:
        """Join the sandbox's connection to the one outside."""
        self._inner = inner
        self._outer = outer
        self._done: Callable[[], None] | None = done
        self._timer: asyncio.TimerHandle | None = None
        self._carried = 0
        inner.join(self, outer)
        outer.join(self, inner)
        for end in (inner, outer):
            if end.ended:
                self.half_closed(end)
        if inner.lost or outer.lost:
            asyncio.get_running_loop().call_soon(self.lost, None)

    @property
    def sent(self) -> int:
        """Return how many bytes the sandbox sent."""
        return self._inner.received

    @property
    def received(self) -> int:
        """Return how many bytes came for the sandbox."""
        return self._outer.received

    def half_closed(self, end: PipeEnd) -> None:
        """Tell the other side that nothing more comes; close both once neither sends."""
        other = end.other
        if other is None or other.transport is None:
            return
        if self._inner.ended and self._outer.ended:
            for transport in (self._inner.transport, self._outer.transport):
                if transport is not None:
                    transport.close()  # after what is still to be written
        elif not other.transport.is_closing():
            with contextlib.suppress(OSError):  # gone meanwhile
                other.transport.write_eof()
            if self._timer is None:
                self._watch()

    def lost(self, error: Exception | None) -> None:
        """One side is gone: let the other take what is on its way, or cut it if there was an error."""
        for end in (self._inner, self._outer):
            if end.transport is not None and not end.lost:
                if error is not None:
                    reset(end.transport)
                else:
                    end.transport.close()
        if self._inner.lost and self._outer.lost:
            self._finish()
        elif self._timer is None:
            self._watch()

    def cut(self) -> None:
        """End both sides now."""
        for end in (self._inner, self._outer):
            if end.transport is not None:
                reset(end.transport)
        self._finish()

    def _watch(self) -> None:
        """Cut a pipe that is about to end when nothing goes through it any more: its client may long be gone."""
        carried = self.sent + self.received
        if self._timer is not None and carried == self._carried:
            self.cut()
            return
        self._carried = carried
        self._timer = asyncio.get_running_loop().call_later(_HALF_CLOSED_S, self._watch)

    def _finish(self) -> None:
        done, self._done = self._done, None
        if self._timer is not None:
            self._timer.cancel()
        if done is not None:
            done()


def reset(transport: asyncio.Transport) -> None:
    """End a connection at once, so that the peer sees a reset and not an orderly end."""
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):  # already closed
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
    transport.abort()
