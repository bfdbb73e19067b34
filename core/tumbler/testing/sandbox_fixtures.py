"""What the parts of the sandbox suite share: fixtures and waiting."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest_asyncio

from tumbler.contracts.sandbox import Sandbox, SandboxBackend, SandboxSpec, Session

__all__ = ["LONG_S", "SandboxFixtures", "assert_still", "until_exists"]

LONG_S: Final = 300
"""Seconds that a test never waits to the end: if it did, the test's own time-out would fail it."""


class SandboxFixtures:
    """The fixtures; `make_backend` is what a subclass overrides."""

    def make_backend(self, folder: Path) -> SandboxBackend:
        """Return a backend that is not started; what it keeps on this machine may lie in `folder`. Override this."""
        raise NotImplementedError(f"{type(self).__name__} must override make_backend")

    @pytest_asyncio.fixture
    async def backend(self, tmp_path: Path) -> AsyncIterator[SandboxBackend]:
        """Yield a started backend."""
        backend = self.make_backend(tmp_path)
        await backend.start()
        yield backend
        await backend.close()

    @pytest_asyncio.fixture
    async def sandbox(self, backend: SandboxBackend) -> AsyncIterator[Sandbox]:
        """Yield a sandbox of the default spec."""
        sandbox = await backend.create(SandboxSpec())
        yield sandbox
        await sandbox.delete()

    @pytest_asyncio.fixture
    async def session(self, sandbox: Sandbox) -> AsyncIterator[Session]:
        """Yield a session in that sandbox."""
        session = await sandbox.session()
        yield session
        await session.close()


async def until_exists(sandbox: Sandbox, path: str) -> None:
    """Wait for a file that a command is about to write."""
    deadline = time.monotonic() + 60
    while True:
        try:
            await sandbox.read(path)
        except FileNotFoundError:
            assert time.monotonic() < deadline, f"{path} never appeared"
            await asyncio.sleep(0.02)
        else:
            return


async def assert_still(sandbox: Sandbox, path: str) -> None:
    """Check that nobody goes on writing a file that a loop wrote every 20 ms."""
    await asyncio.sleep(0.1)
    before = await sandbox.read(path)
    await asyncio.sleep(0.3)
    assert await sandbox.read(path) == before
