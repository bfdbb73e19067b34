"""DNS over TCP (RFC 7766): messages with their length in front; decides nothing."""

import asyncio
import struct
from collections.abc import Callable
from typing import Final

from tumbler_backends.sandbox.egress.name_service import NameService

__all__ = ["NameStream"]

_LENGTH: Final = struct.Struct("!H")
_MAX_MESSAGE: Final = 4096
_MAX_MESSAGES: Final = 8
_LIFE_S: Final = 15.0


class NameStream(asyncio.Protocol):
    """One connection to a name server. It has few messages and little time, for a stub needs no more."""

    def __init__(self, service: NameService, server: str, done: Callable[["NameStream"], None]) -> None:
        """Answer what is asked of `server`; call `done` at the end."""
        self._service = service
        self._server = server
        self._done = done
        self._heard = bytearray()
        self._messages = 0
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def adopt(self, transport: asyncio.Transport) -> None:
        """Take over a connection that was accepted by another protocol."""
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(_LIFE_S, transport.abort)
        transport.set_protocol(self)
        transport.resume_reading()

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Answer the messages that are complete."""
        self._heard += data
        while self._transport is not None and len(self._heard) >= _LENGTH.size:
            size = int(_LENGTH.unpack_from(self._heard)[0])
            if size > _MAX_MESSAGE or self._messages >= _MAX_MESSAGES:
                self._transport.abort()
                return
            if len(self._heard) < _LENGTH.size + size:
                return
            packet = bytes(self._heard[_LENGTH.size : _LENGTH.size + size])
            del self._heard[: _LENGTH.size + size]
            self._messages += 1
            reply = self._service.reply(packet, self._server)
            if reply is not None:
                self._transport.write(_LENGTH.pack(len(reply)) + reply)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that it is over."""
        if self._timer is not None:
            self._timer.cancel()
        self._transport = None
        self._done(self)
