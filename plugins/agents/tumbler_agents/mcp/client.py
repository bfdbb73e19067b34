"""The tools of several servers: listed once, kept as they were, and called through their connections."""

import asyncio
import json
from collections.abc import Awaitable, Mapping, Sequence
from types import TracebackType
from typing import Self

from mcp.types import Tool as ServerTool

from tumbler.contracts.values import JSONObject, ToolSpec
from tumbler_agents.mcp.connection import CallFailed, Connection
from tumbler_agents.mcp.errors import McpServerError
from tumbler_agents.mcp.naming import chosen, legal_name, require_distinct, require_offered
from tumbler_agents.mcp.results import worded
from tumbler_agents.mcp.settings import McpServer
from tumbler_agents.tools.tool import Tool, ToolOutput

__all__ = ["McpClient", "McpTool"]


class McpTool:
    """One tool of one server, as it was when it was listed."""

    def __init__(self, connection: Connection, listed: ServerTool) -> None:
        """Take a copy of what the server tells of the tool."""
        settings = connection.settings
        prefix = connection.name if settings.prefix is None else settings.prefix
        self._connection = connection
        self.own_name = listed.name
        """The server's own name for it."""
        self._reads_only = (
            settings.trust_hints and listed.annotations is not None and bool(listed.annotations.read_only_hint)
        )
        self._spec = ToolSpec(
            name=legal_name(prefix, listed.name),
            description=listed.description or listed.title or "",
            parameters=json.loads(json.dumps(listed.input_schema)),
        )

    @property
    def spec(self) -> ToolSpec:
        """Return name, description and the JSON Schema of the arguments."""
        return self._spec

    @property
    def server(self) -> str:
        """Return the server's name in the settings."""
        return self._connection.name

    @property
    def reads_only(self) -> bool:
        """Return whether it changes nothing, as far as the server is trusted to say so."""
        return self._reads_only

    async def call(self, arguments: JSONObject) -> ToolOutput:
        """Carry out one call; whatever the server does, there is an answer within the settings' time."""
        try:
            result = await self._connection.call(self.own_name, arguments)
        except CallFailed as error:
            return ToolOutput(text=f"error: {self._spec.name}: {error}", errored=True)
        return worded(result, self._connection.settings.output_chars)


class McpClient:
    """The servers of one agent, started with `open` and ended with `close`; use it as a context manager.

    `tools` stays as it is until `refresh`, whatever the servers announce, so that the policy's prompt does, too.
    """

    def __init__(self, servers: Mapping[str, McpServer]) -> None:
        """Take the servers by name; nothing starts yet."""
        self._connections = [Connection(name, settings) for name, settings in servers.items()]
        self._tools: tuple[McpTool, ...] = ()

    @property
    def tools(self) -> Sequence[Tool]:
        """Return the tools as they were listed last, in the order of the servers."""
        return self._tools

    async def open(self) -> None:
        """Start all servers and list their tools; raises `McpServerError`, and then nothing is left running."""
        try:
            await _all([connection.open() for connection in self._connections])
            self._tools = await self._listed(first=True)
        except BaseException:
            await self.close()
            raise

    async def refresh(self) -> bool:
        """Start servers again that do not answer, list the tools anew, and tell whether they differ.

        Tools from before go on working, but for those that a server no longer has. Where the list differs, the
        policy's prompt changes: open a new segment. Raises `McpServerError`, and then the tools stay as they were.
        """
        before = [tool.spec for tool in self._tools]
        await _all([_revived(connection) for connection in self._connections])
        self._tools = await self._listed(first=False)
        return [tool.spec for tool in self._tools] != before

    async def close(self) -> None:
        """End all connections, and the servers that were started. Safe to call twice, and goes on when cancelled."""
        endings = [connection.ending() for connection in self._connections]
        await _all([asyncio.shield(ending) for ending in endings])

    async def __aenter__(self) -> Self:
        """Open it."""
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        await self.close()

    async def _listed(self, *, first: bool) -> tuple[McpTool, ...]:
        tools: list[McpTool] = []
        for connection, listed in zip(
            self._connections, await asyncio.gather(*(each.tools() for each in self._connections)), strict=True
        ):
            names = [tool.name for tool in listed]
            if first:  # a tool that vanished since is told by `refresh`
                require_offered(connection.name, connection.settings, names)
            offered = chosen(connection.settings, names)
            tools += [McpTool(connection, tool) for tool in listed if tool.name in offered]
        require_distinct((tool.spec.name, tool.server, tool.own_name) for tool in tools)
        return tuple(tools)


async def _revived(connection: Connection) -> None:
    """Open a connection again where its server does not answer."""
    try:
        await connection.tools()
    except McpServerError:
        await connection.reopen()


async def _all(awaitables: Sequence[Awaitable[None]]) -> None:
    """Wait for all of them, also where one fails; raise the first failure."""
    outcomes = await asyncio.gather(*awaitables, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
