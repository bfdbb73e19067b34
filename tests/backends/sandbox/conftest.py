from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tumbler.contracts.sandbox import Sandbox, SandboxSpec
from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings


@pytest.fixture
async def bubblewrap(tmp_path: Path) -> AsyncIterator[BubblewrapBackend]:
    backend = BubblewrapBackend(BubblewrapSettings(root=tmp_path / "sandboxes", grace=0.2))
    await backend.start()
    yield backend
    await backend.close()


@pytest.fixture
async def box(bubblewrap: BubblewrapBackend) -> AsyncIterator[Sandbox]:
    sandbox = await bubblewrap.create(SandboxSpec())
    yield sandbox
    await sandbox.delete()
