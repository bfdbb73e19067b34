"""A running service over bubblewrap, and one over a backend that only pretends, both on real sockets."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tumbler.contracts.sandbox import ExecResult, SandboxCapabilities, SandboxSpec
from tumbler.contracts.sandbox_control import BackendMetrics, SandboxInfo, Template
from tumbler.errors import ComponentNotFoundError, SandboxDied, SandboxNotFound
from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings
from tumbler_backends.sandbox.service.service import HttpService
from tumbler_backends.sandbox.service.settings import ServiceSettings


class PretendedSandbox:
    """A sandbox that runs nothing; `slow` commands last until they are cancelled or it is deleted."""

    tier = "namespace"

    def __init__(self, backend: "PretendedBackend", identity: str, spec: SandboxSpec) -> None:
        self.backend, self.id, self.spec = backend, identity, spec
        self.created, self.ttl = time.time(), spec.ttl
        self.gone = asyncio.Event()
        self.cause = "deleted"

    def require(self) -> None:
        if self.gone.is_set():
            raise SandboxDied(f"sandbox {self.id} is gone", self.cause)

    async def exec(self, command, **options) -> ExecResult:
        self.require()
        self.backend.commands.append((command, options))
        if command == "slow":
            try:
                await self.gone.wait()
            except asyncio.CancelledError:
                self.backend.commands.append(("cancelled", {}))
                raise
            self.require()
        if isinstance(command, Exception):
            raise command
        if (error := self.backend.failures.get(command)) is not None:
            raise error
        return ExecResult(exit_code=0, stdout=str(len(self.backend.commands)).encode(), stderr=b"", duration=0.0)

    async def info(self) -> SandboxInfo:
        self.require()
        return SandboxInfo(
            id=self.id,
            backend="pretended",
            state="running",
            tier="namespace",
            created=self.created,
            expires=self.created + self.ttl,
            name=self.spec.name,
            image=self.spec.image,
            labels=self.spec.labels,
        )

    async def extend(self, ttl: float) -> None:
        self.require()
        self.ttl = ttl

    async def heartbeat(self) -> None:
        self.require()

    async def snapshot(self) -> Template:
        template = Template(id=f"t{len(self.backend.stored)}", created=time.time(), source=self.id)
        self.backend.stored.append(template)
        return template

    async def fork(self, count: int = 1):
        return [await self.backend.create(replace(self.spec, name=None)) for _ in range(count)]

    async def delete(self) -> None:
        self.gone.set()


class PretendedBackend:
    """A backend of sandboxes that run nothing; `gate` holds creations back."""

    capabilities = SandboxCapabilities(
        tier="namespace", snapshots=True, enforces=frozenset({"cpus", "memory_bytes"}), network_modes=("none",)
    )

    def __init__(self) -> None:
        self.sandboxes: dict[str, PretendedSandbox] = {}
        self.commands: list[tuple[object, dict]] = []
        self.failures: dict[str, Exception] = {}
        self.stored: list[Template] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.closed = False
        self._numbers = itertools.count()

    async def start(self) -> None: ...

    async def create(self, spec: SandboxSpec) -> PretendedSandbox:
        await self.gate.wait()
        sandbox = PretendedSandbox(self, f"s{next(self._numbers)}", spec)
        self.sandboxes[sandbox.id] = sandbox
        return sandbox

    async def get(self, identity: str) -> PretendedSandbox:
        for sandbox in self.sandboxes.values():
            if identity in (sandbox.id, sandbox.spec.name) and not sandbox.gone.is_set():
                return sandbox
        raise SandboxNotFound(f"there is no sandbox {identity}")

    async def attach(self, identity: str) -> PretendedSandbox:
        return await self.get(identity)

    async def list(self, *, labels=None, mine=True):
        living = [each for each in self.sandboxes.values() if not each.gone.is_set()]
        return [await each.info() for each in living if (labels or {}).items() <= each.spec.labels.items()]

    async def reconcile(self) -> int:
        return 0

    async def templates(self):
        return self.stored

    async def delete_template(self, identity: str) -> None:
        self.stored = [each for each in self.stored if each.id != identity]

    def measure(self) -> BackendMetrics:
        return BackendMetrics(sandboxes=len(self.sandboxes), created=0, deleted=0)

    async def close(self) -> None:
        self.closed = True
        for sandbox in self.sandboxes.values():
            await sandbox.delete()


class Environments:
    """The environments that a test serves: name → how to build one from settings."""

    def __init__(self) -> None:
        self.builders: dict[str, Callable] = {}

    def names(self):
        return sorted(self.builders)

    def build(self, name, settings):
        if name not in self.builders:
            raise ComponentNotFoundError(f"there is no environment {name!r}")
        return self.builders[name](settings)


@asynccontextmanager
async def served(backend, environments, **settings) -> AsyncIterator[str]:
    """Serve a backend and yield the URL."""
    url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    service = HttpService(ServiceSettings(port=0, shutdown_seconds=1, **settings))
    serving = asyncio.ensure_future(service.serve(backend, environments=environments, on_ready=url.set_result))
    await asyncio.wait([serving, url], return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        serving.result()
    try:
        yield url.result()
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


@pytest.fixture
def environments() -> Environments:
    return Environments()


@pytest.fixture
def pretended() -> PretendedBackend:
    return PretendedBackend()


@pytest.fixture
async def serve(pretended, environments) -> AsyncIterator[Callable]:
    """Return a function that serves the pretended backend with settings, and gives clients by token."""
    stack, clients = [], []

    async def start(**settings) -> Callable[..., httpx.AsyncClient]:
        context = served(pretended, environments, **settings)
        url = await context.__aenter__()
        stack.append(context)

        def client(token: str | None = None) -> httpx.AsyncClient:
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            clients.append(httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=30))
            return clients[-1]

        return client

    yield start
    for client in clients:
        await client.aclose()
    for context in stack:
        await context.__aexit__(None, None, None)


@pytest.fixture
async def real(tmp_path: Path, environments) -> AsyncIterator[str]:
    """Serve bubblewrap, and yield the URL."""
    backend = BubblewrapBackend(BubblewrapSettings(root=tmp_path / "sandboxes", grace=0.2))
    async with served(backend, environments) as url:
        yield url
    assert not list((tmp_path / "sandboxes").iterdir())
