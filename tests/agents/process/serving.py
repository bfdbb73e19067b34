"""A small server on this machine, and clients that run inside a sandbox."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from tumbler.contracts.gateway import Endpoint
from tumbler_agents.process.relay import opening

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(serve: Serve):
    """Serve each connection with `serve`, and yield the endpoint."""

    async def guarded(reader, writer):
        with suppress(ConnectionError):
            await serve(reader, writer)
        writer.close()

    listening = await asyncio.start_server(guarded, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    try:
        yield Endpoint(url=f"http://127.0.0.1:{port}", secret="secret")
    finally:
        listening.close()


async def echo(reader, writer) -> None:
    """Give back what comes, until it ends."""
    while piece := await reader.read(1 << 16):
        writer.write(piece)
        await writer.drain()
    writer.write_eof()


@asynccontextmanager
async def relay_by(interpreter: str, sandbox, endpoint: Endpoint):
    """Open a relay that runs in Python or in Node."""
    missing = Missing(sandbox, "python") if interpreter == "node" else sandbox
    async with opening.open_relay(missing, endpoint, folder="/tmp/relay") as opened:
        yield opened


class Missing:
    """A sandbox without the programs whose name begins so."""

    def __init__(self, sandbox, *names: str) -> None:
        self._sandbox = sandbox
        self._names = names

    def __getattr__(self, name):
        return getattr(self._sandbox, name)

    async def exec(self, command, **options):
        if not isinstance(command, str) and command[0].startswith(self._names):
            return await self._sandbox.exec(["/no/such/program"], **options)
        return await self._sandbox.exec(command, **options)

    async def spawn(self, command, **options):
        return await self._sandbox.spawn(command, **options)


async def client(sandbox, opened, program: str, *, timeout: float = 60.0) -> str:
    """Run a Python program inside that finds `port` and `socket`, and return what it prints."""
    port = int(opened.endpoint.url.rpartition(":")[2])
    source = f"import hashlib, os, socket, threading, time\nport = {port}\n{program}"
    result = await sandbox.exec(["python3", "-c", source], timeout=timeout)
    assert result.exit_code == 0, result.stderr.decode()[-2000:]
    return result.stdout.decode().strip()
