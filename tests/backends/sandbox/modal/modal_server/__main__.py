"""Serve until stdin ends: `python -m modal_server FOLDER USER` prints its port on the first line."""

import asyncio
import contextlib
import sys
from pathlib import Path

from grpclib.server import Server

from modal_server.control import ControlPlane
from modal_server.fleet import Fleet
from modal_server.router import CommandRouter
from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings


async def serve(folder: Path, user: str | None) -> None:
    backend = BubblewrapBackend(
        BubblewrapSettings(root=folder / "sandboxes", mountable=(folder / "agents",), grace=0.1)
    )
    await backend.start()
    fleet = Fleet(backend, folder / "agents", user)
    server = Server([ControlPlane(fleet), CommandRouter(fleet)])
    await server.start("127.0.0.1", 0)
    port = _port_of(server)
    fleet.url = f"http://127.0.0.1:{port}"
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await _stdin_ended()
    server.close()
    await fleet.close()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(server.wait_closed(), 2)
    await backend.close()


def _port_of(server: Server) -> int:
    listener = server._server  # grpclib tells the port of a listener nowhere else
    assert isinstance(listener, asyncio.Server)
    return int(listener.sockets[0].getsockname()[1])


async def _stdin_ended() -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2] or None))
