"""Relay connections from a port of the host's loopback to a port inside; knows no policy."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeAlias

__all__ = ["PortRelay", "SocketLender"]

_PIECE: Final = 1 << 16
_CONNECT_S: Final = 10.0
SocketLender: TypeAlias = Callable[[], AbstractAsyncContextManager[socket.socket | None]]


class PortRelay:
    """A listening socket on 127.0.0.1 whose connections end at a port inside, as long as one is open there."""

    def __init__(self, port: int, lend_socket: SocketLender) -> None:
        """Relay to `port`; `lend_socket` lends a TCP socket of the inner network, None where nothing runs."""
        self._port = port
        self._lend_socket = lend_socket
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        """Listen, and return the URL."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def close(self) -> None:
        """Stop listening, and cut what is connected."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            return
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            with contextlib.suppress(OSError, TimeoutError):
                await self._relay(reader, writer)
        finally:
            writer.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with self._lend_socket() as inner:
            if inner is None:
                return
            inner.setblocking(False)
            async with asyncio.timeout(_CONNECT_S):
                await asyncio.get_running_loop().sock_connect(inner, ("127.0.0.1", self._port))
            answers, requests = await asyncio.open_connection(sock=inner)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(_pump(reader, requests))
                    both.create_task(_pump(answers, writer))
            finally:
                requests.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on all that comes, and then its end."""
    with contextlib.suppress(OSError):
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
