"""A started process backend, and specs that it takes."""

import pytest

from tumbler.contracts.sandbox import NetworkPolicy, SandboxSpec
from tumbler_backends.sandbox.process.backend import ProcessBackend
from tumbler_backends.sandbox.process.settings import ProcessSettings


@pytest.fixture
def spec():
    return SandboxSpec(isolation_min="process", network=NetworkPolicy(mode="public"))


@pytest.fixture
def process_settings(tmp_path):
    return ProcessSettings(i_know_this_is_not_isolated=True, root=tmp_path / "sandboxes", grace=0.1)


@pytest.fixture
async def opened(process_settings):
    backend = ProcessBackend(process_settings)
    with pytest.warns(RuntimeWarning, match="isolates nothing"):
        await backend.start()
    yield backend
    await backend.close()


@pytest.fixture
async def box(opened, spec):
    return await opened.create(spec)
