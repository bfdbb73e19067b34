"""A stage for episodes, and a sandbox alone."""

import pytest
from tests.agents.process.playing import stage

from tumbler.contracts.sandbox import SandboxSpec


@pytest.fixture
async def on(tmp_path):
    async with stage(tmp_path, caches=[tmp_path / "programs"]) as opened:
        yield opened


@pytest.fixture
async def sandbox(on):
    return await on.backend.create(SandboxSpec())
