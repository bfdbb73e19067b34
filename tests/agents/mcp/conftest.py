import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from tests.agents.mcp.servers import HttpServer, offering

from tumbler_agents.mcp.settings import McpServer


@pytest.fixture
async def over_http() -> AsyncIterator[HttpServer]:
    """A server over streamable HTTP, running."""
    server = HttpServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(params=["stdio", "http"])
def server(request: pytest.FixtureRequest) -> McpServer:
    """The server that offers every kind of content, over either transport."""
    if request.param == "stdio":
        return offering(call_seconds=30)
    over_http: HttpServer = request.getfixturevalue("over_http")
    return over_http.settings


@pytest.fixture
def gone(tmp_path: Path) -> Callable[[], Awaitable[int]]:
    """Wait until the processes noted in the file `pids` have ended, and return how many there were."""

    async def wait() -> int:
        pids = [int(line) for line in (tmp_path / "pids").read_text().split()]
        async with asyncio.timeout(20):
            while any(map(_runs, pids)):
                await asyncio.sleep(0.02)
        return len(pids)

    return wait


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
