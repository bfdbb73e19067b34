from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tumbler.contracts.sandbox import Sandbox, SandboxSpec
from tumbler_agents.tools.sandbox import SandboxTools
from tumbler_agents.tools.settings import SandboxToolsSettings
from tumbler_agents.tools.tool import ToolOutput
from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Sandbox]:
    backend = BubblewrapBackend(BubblewrapSettings(root=tmp_path / "sandboxes", grace=0.2))
    await backend.start()
    sandbox = await backend.create(SandboxSpec())
    yield sandbox
    await sandbox.delete()
    await backend.close()


@pytest.fixture
def settings() -> SandboxToolsSettings:
    return SandboxToolsSettings()


@pytest.fixture
def kit(box: Sandbox, settings: SandboxToolsSettings) -> SandboxTools:
    return SandboxTools(box, settings)


@pytest.fixture
def call(kit: SandboxTools) -> Callable[..., Awaitable[ToolOutput]]:
    tools = {tool.spec.name: tool for tool in kit.tools}

    async def call_one(name: str, **arguments: object) -> ToolOutput:
        return await tools[name].call(arguments)  # type: ignore[arg-type]  # JSON values

    return call_one
