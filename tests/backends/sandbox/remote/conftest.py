"""A service in a process of its own, which can be killed, and a wire to it, which can be cut."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tumbler_backends.sandbox.remote.backend import RemoteBackend
from tumbler_backends.sandbox.remote.settings import RemoteSettings

TOKEN = "a-token-of-the-tests"

SERVICE = """
import asyncio, sys
from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings
from tumbler_backends.sandbox.service.service import HttpService
from tumbler_backends.sandbox.service.settings import ServiceSettings

class NoEnvironments:
    def names(self):
        return []
    def build(self, name, settings):
        raise LookupError(name)

root, port, token = sys.argv[1], int(sys.argv[2]), sys.argv[3]
backend = BubblewrapBackend(BubblewrapSettings(root=root, owner="served", grace=0.2))
service = HttpService(ServiceSettings(port=port, tenants=[{"name": "t", "token": token}], shutdown_seconds=1,
                                      on_stop="delete", concurrent_creates=2, queue=2))
asyncio.run(service.serve(backend, environments=NoEnvironments(), on_ready=lambda url: print(url, flush=True)))
"""


class KillableService:
    """A service that can be killed and started again at the same address, over the same folder."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "sandboxes"
        self.url = ""
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        port = str(urlsplit(self.url).port or 0)
        words = [sys.executable, "-c", SERVICE, str(self.root), port, TOKEN]
        self._process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
        assert self._process.stdout is not None
        self.url = (await self._process.stdout.readline()).decode().strip()
        assert self.url.startswith("http://")

    async def end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            await self._process.wait()
            self._process = None


class Wire:
    """Passes bytes on to the service; `cut` breaks all connections, `close` refuses new ones."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self._writers: set[asyncio.StreamWriter] = set()
        self.connections = 0
        self.url = ""

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", urlsplit(self.url).port or 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def close(self) -> None:
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        far_reader, far_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        both = {writer, far_writer}
        self._writers |= both
        with contextlib.suppress(OSError):
            await asyncio.gather(_pass_on(reader, far_writer), _pass_on(far_reader, writer))
        for each in both:
            each.transport.abort()
        self._writers -= both


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65536):
        writer.write(piece)
        await writer.drain()
    writer.transport.abort()


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[KillableService]:
    running = KillableService(tmp_path)
    await running.start()
    yield running
    await running.end(signal.SIGTERM)
    assert not [path for path in running.root.iterdir() if not path.name.startswith(".")]


@pytest.fixture
async def wire(service: KillableService) -> AsyncIterator[Wire]:
    wire = Wire(service.url)
    await wire.open()
    yield wire
    await wire.close()


@pytest.fixture
async def remote(service: KillableService) -> AsyncIterator[RemoteBackend]:
    backend = RemoteBackend(RemoteSettings(url=service.url, token=TOKEN))
    await backend.start()
    yield backend
    await backend.close()


@pytest.fixture
async def wired(wire: Wire) -> AsyncIterator[RemoteBackend]:
    """Yield a backend whose connections can be cut."""
    backend = RemoteBackend(RemoteSettings(url=wire.url, token=TOKEN))
    await backend.start()
    yield backend
    await backend.close()
