"""Reach a port inside of a container from this machine's loopback, through the container's network namespace."""

import asyncio
import contextlib
import socket
from typing import Final

from tumbler_backends.sandbox.egress.network_namespace import NamespaceDescriptors, run_in_namespaces

__all__ = ["PortRelay"]

_PIECE: Final = 1 << 16
_CONNECT_S: Final = 10.0


class PortRelay:
    """A listening socket on 127.0.0.1 whose connections end at a port inside."""

    def __init__(self, port: int, namespaces: NamespaceDescriptors) -> None:
        """Relay to `port`; the namespaces stay the caller's."""
        self._port = port
        self._namespaces = namespaces
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        """Listen, and return the URL."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        """Stop listening, and cut what is connected."""
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            return
        self._connections.add(task)
        try:
            with contextlib.suppress(OSError, TimeoutError, asyncio.CancelledError):
                await self._relay(reader, writer)
        finally:
            self._connections.discard(task)
            writer.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner = await asyncio.to_thread(run_in_namespaces, self._namespaces, _new_socket)
        inner.setblocking(False)
        try:
            async with asyncio.timeout(_CONNECT_S):
                await asyncio.get_running_loop().sock_connect(inner, ("127.0.0.1", self._port))
        except BaseException:
            inner.close()
            raise
        inner_reader, inner_writer = await asyncio.open_connection(sock=inner)
        try:
            await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
        finally:
            inner_writer.close()


def _new_socket() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hand on what comes, and then the end of it."""
    while piece := await reader.read(_PIECE):
        writer.write(piece)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
