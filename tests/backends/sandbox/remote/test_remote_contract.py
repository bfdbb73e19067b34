"""The whole contract through HTTP: remote backend → service → bubblewrap, on a real socket."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from tumbler.contracts.sandbox import SandboxBackend
from tumbler.errors import ComponentNotFoundError
from tumbler.testing.sandbox_complete_suite import CompleteSandboxSuite
from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings
from tumbler_backends.sandbox.remote.backend import RemoteBackend
from tumbler_backends.sandbox.remote.settings import RemoteSettings
from tumbler_backends.sandbox.service.service import HttpService
from tumbler_backends.sandbox.service.settings import ServiceSettings

TOKEN = "a-token-of-the-tests"


class NoEnvironments:
    def names(self):
        return []

    def build(self, name, settings):
        raise ComponentNotFoundError(f"there is no environment {name!r}")


class ServedBackend(RemoteBackend):
    """A remote backend that brings its service along."""

    def __init__(self, folder: Path) -> None:
        self._local = BubblewrapBackend(BubblewrapSettings(root=folder / "sandboxes", grace=0.2))
        tenant = {"name": "suite", "token": TOKEN}
        self._service = HttpService(ServiceSettings(port=0, tenants=[tenant], host_paths=["/"], shutdown_seconds=1))

    async def start(self) -> None:
        url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._serving = asyncio.ensure_future(
            self._service.serve(self._local, environments=NoEnvironments(), on_ready=url.set_result)
        )
        await asyncio.wait([self._serving, url], return_when=asyncio.FIRST_COMPLETED)
        if self._serving.done():
            self._serving.result()
        super().__init__(RemoteSettings(url=url.result(), token=TOKEN))
        await super().start()

    async def close(self) -> None:
        await super().close()
        assert self._local.measure().sandboxes == 0
        self._serving.cancel()
        await asyncio.gather(self._serving, return_exceptions=True)


class TestRemoteContract(CompleteSandboxSuite):
    def make_backend(self, folder: Path) -> SandboxBackend:
        return ServedBackend(folder)

    def leftovers(self, folder: Path) -> Sequence[object]:
        return list((folder / "sandboxes").iterdir())
