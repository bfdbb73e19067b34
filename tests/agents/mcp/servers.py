"""The servers that the tests speak to, each a process of its own."""

import asyncio
import sys
from pathlib import Path

from tumbler_agents.mcp.settings import McpServer

__all__ = ["HttpServer", "offering", "rude"]

HERE = Path(__file__).parent
TOKEN = "Bearer sesame"


def offering(**more: object) -> McpServer:
    """Return the settings of the server that offers every kind of content, over stdio."""
    given = {"command": sys.executable, "args": (str(HERE / "offering_server.py"),), **more}
    return McpServer.model_validate(given)


def rude(mode: str, note: object = "", **more: object) -> McpServer:
    """Return the settings of a server that misbehaves."""
    args = (str(HERE / "rude_server.py"), mode, str(note))
    return McpServer.model_validate({"command": sys.executable, "args": args, **more})


class HttpServer:
    """The server that offers every kind of content, over streamable HTTP; it keeps its port when started again."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._port = 0

    @property
    def settings(self) -> McpServer:
        url = f"http://127.0.0.1:{self._port}/mcp"
        return McpServer.model_validate({"url": url, "secret_headers": {"Authorization": TOKEN}, "call_seconds": 30})

    async def start(self) -> None:
        command = (sys.executable, str(HERE / "offering_server.py"), "http", TOKEN, str(self._port))
        self._process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert self._process.stdout is not None
        self._port = int(await asyncio.wait_for(self._process.stdout.readline(), 60))

    async def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.communicate()
            self._process = None
