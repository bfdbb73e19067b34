"""A server made with the protocol's own library: each kind of content, over stdio, or over HTTP on a free port.

Over HTTP it prints its port, once it listens, and wants the header that it is given.
"""

import asyncio
import base64
import os
import socket
import sys
from typing import Any

import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
    ToolAnnotations,
)

server = MCPServer("offering")
DATA = base64.b64encode(b"12345").decode()


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def fail(reason: str) -> str:
    """Go wrong."""
    raise ToolError(reason)


@server.tool()
def kinds() -> CallToolResult:
    """Answer with every kind of content."""
    return CallToolResult(
        content=[
            TextContent(text="words"),
            ImageContent(data=DATA, mime_type="image/png"),
            AudioContent(data=DATA, mime_type="audio/wav"),
            EmbeddedResource(resource=TextResourceContents(uri="file:///a.txt", text="held")),
            EmbeddedResource(resource=BlobResourceContents(uri="file:///b.bin", blob=DATA)),
            ResourceLink(uri="file:///c.txt", name="c", description="the third"),
        ]
    )


@server.tool(name="odd.name/with spaces")
def odd() -> str:
    """Have a name that is no function's."""
    return "odd"


@server.tool()
def long_text(lines: int) -> str:
    """Answer with many lines."""
    return "\n".join(map(str, range(lines)))


@server.tool()
def environment() -> dict[str, str]:
    """Tell all variables."""
    return dict(os.environ)


@server.tool()
def folder() -> str:
    """Tell the present folder."""
    return os.getcwd()  # noqa: PTH109  # the text itself


@server.tool()
async def wait(seconds: float) -> str:
    """Wait."""
    await asyncio.sleep(seconds)
    return "waited"


@server.tool()
def grow() -> str:
    """Offer one tool more from now on."""
    server.add_tool(lambda: "new", name="grown", description="Newly grown.")
    return "grown"


def serve_http(header: str, port: int) -> None:
    app = server.streamable_http_app()

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and dict(scope["headers"]).get(b"authorization") != header.encode():
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b"no"})
            return
        await app(scope, receive, send)

    listening = socket.create_server(("127.0.0.1", port))
    sys.stdout.write(f"{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    uvicorn.Server(uvicorn.Config(guarded, log_level="error")).run(sockets=[listening])


if __name__ == "__main__":
    if sys.argv[1:2] == ["http"]:
        serve_http(sys.argv[2], int(sys.argv[3]))
    else:
        server.run("stdio")
