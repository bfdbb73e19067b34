"""Real sandboxes for the tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tumbler.contracts.sandbox import Sandbox, SandboxSpec
from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[BubblewrapBackend]:
    backend = BubblewrapBackend(BubblewrapSettings(root=tmp_path / "sandboxes", grace=0.2))
    await backend.start()
    yield backend
    await backend.close()


@pytest.fixture
async def box(backend: BubblewrapBackend) -> Sandbox:
    return await backend.create(SandboxSpec())
