"""What the parts of the sandbox suites share: fixtures, waiting, and measuring; knows no single test."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from tumbler.contracts.sandbox import Sandbox, SandboxBackend, SandboxSpec, Session
from tumbler.contracts.sandbox_control import CompleteSandbox, ManagedBackend
from tumbler.testing.suite import ContractSuite

__all__ = [
    "LONG_S",
    "Boxes",
    "CompleteFixtures",
    "SandboxFixtures",
    "assert_still",
    "bounded_memory",
    "eventually",
    "until_exists",
]

LONG_S: Final = 300
"""Seconds that a test never waits to the end: if it did, the test's own time-out would fail it."""
_PATIENCE_S: Final = 60.0
_SAMPLE_S: Final = 0.01


class Boxes:
    """Makes one test's sandboxes, each from an adapted spec, and deletes those that are left at its end."""

    def __init__(self, backend: SandboxBackend, adapt: Callable[[SandboxSpec], SandboxSpec]) -> None:
        """Make none yet."""
        self._backend = backend
        self._adapt = adapt
        self._made: list[Sandbox] = []

    async def __call__(self, spec: SandboxSpec = SandboxSpec()) -> Sandbox:  # noqa: B008  # frozen
        """Create a sandbox."""
        sandbox = await self._backend.create(self._adapt(spec))
        self._made.append(sandbox)
        return sandbox

    async def complete(self, spec: SandboxSpec = SandboxSpec()) -> CompleteSandbox:  # noqa: B008  # frozen
        """Create a sandbox that must have every ability."""
        sandbox = await self(spec)
        assert isinstance(sandbox, CompleteSandbox), "the sandbox lacks methods of CompleteSandbox"
        return sandbox

    def adopt(self, sandboxes: Sequence[Sandbox]) -> None:
        """Delete these at the end, too."""
        self._made += sandboxes

    async def delete(self) -> None:
        """Delete all."""
        await asyncio.gather(*(sandbox.delete() for sandbox in self._made))


class SandboxFixtures(ContractSuite):
    """The fixtures; `make_backend` is what a subclass overrides.

    One backend serves all tests of a class, in one event loop, because some take seconds to start. Each
    test has sandboxes of its own.
    """

    def make_backend(self, folder: Path) -> SandboxBackend:
        """Return a backend that is not started; what it keeps on this machine may lie in `folder`. Override this."""
        raise NotImplementedError(f"{type(self).__name__} must override make_backend")

    def adapt(self, spec: SandboxSpec) -> SandboxSpec:
        """Return a test's spec as this backend needs it. Override this for an image, or for weaker isolation."""
        return spec

    def leftovers(self, folder: Path) -> Sequence[object]:
        """Return what a closed backend left behind, of folders or processes. Override this where it can be seen."""
        return ()

    @pytest_asyncio.fixture(scope="class", loop_scope="class")
    @classmethod
    async def backend(cls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SandboxBackend]:
        """Yield a started backend, and see that it leaves nothing behind."""
        suite = cls()
        folder = tmp_path_factory.mktemp("backend")
        backend = suite.make_backend(folder)
        await backend.start()
        yield backend
        await backend.close()
        assert not suite.leftovers(folder)

    @pytest_asyncio.fixture(loop_scope="class")
    async def boxes(self, backend: SandboxBackend) -> AsyncIterator[Boxes]:
        """Yield a function that makes sandboxes."""
        boxes = Boxes(backend, self.adapt)
        yield boxes
        await boxes.delete()

    @pytest_asyncio.fixture(loop_scope="class")
    async def sandbox(self, boxes: Boxes) -> Sandbox:
        """Return a sandbox of the default spec."""
        return await boxes()

    @pytest_asyncio.fixture(loop_scope="class")
    async def session(self, sandbox: Sandbox) -> AsyncIterator[Session]:
        """Yield a session in that sandbox."""
        session = await sandbox.session()
        yield session
        await session.close()


class CompleteFixtures(SandboxFixtures):
    """The fixtures of backends with every ability."""

    @pytest.fixture
    def managed(self, backend: SandboxBackend) -> ManagedBackend:
        """Return the backend, which must have every method."""
        assert isinstance(backend, ManagedBackend), "the backend lacks methods of ManagedBackend"
        return backend

    @pytest_asyncio.fixture(loop_scope="class")
    async def box(self, boxes: Boxes) -> CompleteSandbox:
        """Return a sandbox of the default spec."""
        return await boxes.complete()


async def eventually(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait until something holds, with a bound that no machine needs."""
    deadline = time.monotonic() + _PATIENCE_S
    while not await holds():
        assert time.monotonic() < deadline, f"{what} within {_PATIENCE_S:g} s"
        await asyncio.sleep(0.05)


async def until_exists(sandbox: Sandbox, path: str) -> None:
    """Wait for a file that a command is about to write."""

    async def exists() -> bool:
        try:
            await sandbox.read(path)
        except FileNotFoundError:
            return False
        return True

    await eventually(exists, f"{path} should appear")


async def assert_still(sandbox: Sandbox, path: str) -> None:
    """Check that nobody goes on writing a file that a loop wrote every 20 ms."""
    await asyncio.sleep(0.1)
    before = await sandbox.read(path)
    await asyncio.sleep(0.3)
    assert await sandbox.read(path) == before


@asynccontextmanager
async def bounded_memory(limit: int) -> AsyncIterator[None]:
    """Check that this process's memory grows by no more than `limit` bytes meanwhile."""
    before = highest = _resident()

    async def watch() -> None:
        nonlocal highest
        while True:
            highest = max(highest, _resident())
            await asyncio.sleep(_SAMPLE_S)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
    grown = max(highest, _resident()) - before
    assert grown <= limit, f"this process grew by {grown >> 20} MiB; {limit >> 20} MiB are allowed"


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096
