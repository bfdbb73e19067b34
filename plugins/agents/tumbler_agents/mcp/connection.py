"""A connection to one server, owned by one task from its first to its last moment; knows no tool of ours."""

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack, suppress
from typing import Final, TypeVar

import httpx2
from mcp import Client, MCPError
from mcp.client import Transport
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CONNECTION_CLOSED, REQUEST_TIMEOUT, CallToolResult, Implementation, Tool
from pydantic import ValidationError

from tumbler.contracts.values import JSONObject
from tumbler_agents.mcp.errors import McpServerError
from tumbler_agents.mcp.process import ServerProcess
from tumbler_agents.mcp.settings import McpServer
from tumbler_agents.mcp.stdio import speaking

__all__ = ["CallFailed", "Connection"]

_PAGES: Final = 100
_MARGIN_S: Final = 2.0
_CLOSE_S: Final = 10.0
_ASKING: Final = Implementation(name="tumbler", version="1")

Result = TypeVar("Result")


class CallFailed(Exception):
    """A call that brought no result; the message tells why."""


class Connection:
    """One server, open from `open` to `close`.

    The protocol's library binds its cancel scopes to the task that enters them. So a task of our own enters and
    leaves them, whichever tasks open, use and close the connection.
    """

    def __init__(self, name: str, settings: McpServer) -> None:
        """Keep the settings; nothing starts yet."""
        self.name = name
        self.settings = settings
        self._process: ServerProcess | None = None
        self._client: Client | None = None
        self._owner: asyncio.Task[None] | None = None
        self._leave = asyncio.Event()
        self._ending: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """Tell whether calls can be made."""
        return self._client is not None and self._owner is not None and not self._owner.done() and not self._lost()

    async def open(self) -> None:
        """Start the server, or reach it, and greet it; raises `McpServerError`, and then nothing is left running."""
        ready = asyncio.Event()
        self._owner = asyncio.create_task(self._own(ready), name=f"mcp server {self.name}")
        greeting = asyncio.create_task(ready.wait())
        try:
            seconds = self.settings.start_seconds
            await asyncio.wait((greeting, self._owner), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            await self.close()
            raise
        finally:
            greeting.cancel()
        if self._client is None:
            failure = self._failure() or f"it did not answer within {seconds:g} seconds"
            await self.close()
            raise McpServerError(f"the MCP server {self.name!r} did not start: {failure}{self._last_words()}")

    async def close(self) -> None:
        """End the connection, and the server where we started it. Safe to call twice, and goes on when cancelled."""
        await asyncio.shield(self.ending())

    def ending(self) -> "asyncio.Task[None]":
        """Begin to end the connection and return the task that does so, whoever waits for it."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._end())
        return self._ending

    async def reopen(self) -> None:
        """End what is left of the connection and open it again; raises `McpServerError`."""
        await self.close()
        self._process = self._client = self._owner = self._ending = None
        self._leave = asyncio.Event()
        await self.open()

    async def tools(self) -> list[Tool]:
        """Ask for the server's tools; raises `McpServerError`."""
        try:
            return await self._within(self.settings.start_seconds, self._tools())
        except CallFailed as error:
            raise McpServerError(f"the MCP server {self.name!r} does not tell its tools: {error}") from error

    async def call(self, tool: str, arguments: JSONObject) -> CallToolResult:
        """Call a tool by the server's own name for it; raises `CallFailed`."""
        seconds = self.settings.call_seconds
        return await self._within(seconds, self._call(tool, arguments, seconds))

    async def _call(self, tool: str, arguments: JSONObject, seconds: float) -> CallToolResult:
        return await self._living().call_tool(tool, dict(arguments), read_timeout_seconds=seconds)

    async def _tools(self) -> list[Tool]:
        found: list[Tool] = []
        cursor: str | None = None
        for _page in range(_PAGES):
            page = await self._living().list_tools(cursor=cursor)
            found += page.tools
            cursor = page.next_cursor
            if cursor is None:
                return found
        raise CallFailed(f"its list has more than {_PAGES} pages")

    def _living(self) -> Client:
        if self._client is None or not self.alive:
            raise CallFailed(self._gone())
        return self._client

    async def _within(self, seconds: float, request: Awaitable[Result]) -> Result:
        """Wait for a request; it fails at the latest with its time, or with the connection."""
        asking = asyncio.ensure_future(request)
        owner = (self._owner,) if self._owner is not None else ()
        try:
            # The library's own time-out comes first: it tells the server that nobody waits any more.
            await asyncio.wait((asking, *owner), timeout=seconds + _MARGIN_S, return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                return asking.result()
        except CallFailed:
            raise
        except Exception as error:  # guards against the library's and the server's mistakes, whatever they are
            raise CallFailed(await self._explained(error, seconds)) from error
        finally:
            await _cancelled(asking)
        raise CallFailed(f"no answer within {seconds:g} seconds" if self.alive else self._gone())

    async def _own(self, ready: asyncio.Event) -> None:
        async with AsyncExitStack() as stack:
            transport = await (self._over_http(stack) if self.settings.command is None else self._over_stdio(stack))
            # Without a cache: what is asked for again is wanted anew.
            client = await stack.enter_async_context(Client(transport, client_info=_ASKING, cache=None))
            self._client = client
            ready.set()
            await self._leave.wait()

    async def _over_stdio(self, stack: AsyncExitStack) -> Transport:
        settings = self.settings
        command = [settings.command or "", *settings.args]
        self._process = await ServerProcess.start(command, settings.variables(), settings.cwd)
        stack.push_async_callback(self._process.end)
        return speaking(self._process)

    async def _over_http(self, stack: AsyncExitStack) -> Transport:
        settings = self.settings
        timeout = httpx2.Timeout(settings.start_seconds, read=settings.call_seconds + _MARGIN_S)
        http = httpx2.AsyncClient(headers=settings.all_headers(), timeout=timeout)
        await stack.enter_async_context(http)
        return streamable_http_client(settings.url or "", http_client=http)

    async def _end(self) -> None:
        owner = self._owner
        if owner is None:
            return
        self._leave.set()
        if self._client is None:  # it waits for a server that does not answer
            owner.cancel()
        _done, late = await asyncio.wait((owner,), timeout=_CLOSE_S)
        if late:
            owner.cancel()
            await asyncio.wait((owner,), timeout=_CLOSE_S)
        self._failure()  # otherwise asyncio complains that nobody asked
        self._client = None

    async def _explained(self, error: Exception, seconds: float) -> str:
        """Return why a request failed, in words for the policy."""
        if isinstance(error, MCPError) and error.code == REQUEST_TIMEOUT:
            return f"no answer within {seconds:g} seconds"
        if isinstance(error, MCPError) and error.code == CONNECTION_CLOSED and self._process is not None:
            await self._process.exited(_MARGIN_S)  # its output ends a moment before it does
        return self._gone() if self._lost() else _said(error)

    def _lost(self) -> bool:
        return self._process is not None and self._process.exit_code is not None

    def _failure(self) -> str | None:
        """Return what ended the owner; None while it lives, or if it left as asked."""
        owner = self._owner
        if owner is None or not owner.done() or owner.cancelled():
            return None
        error = owner.exception()
        return None if error is None else _said(_innermost(error))

    def _gone(self) -> str:
        if self._process is not None and self._process.exit_code is not None:
            return f"the server has ended with exit code {self._process.exit_code}{self._last_words()}"
        failure = self._failure()
        return f"the connection has ended{f': {failure}' if failure else ''}"

    def _last_words(self) -> str:
        words = self._process.last_words if self._process is not None else ""
        return f"; its last words: {words}" if words else ""


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _said(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        return f"the server's answer is not what the protocol asks for ({error.error_count()} mistakes)"
    plain = isinstance(error, MCPError | OSError) and str(error)
    return plain or f"{type(error).__name__}: {error}"


async def _cancelled(task: "asyncio.Future[Result]") -> None:
    """Cancel what is still running and see it end."""
    if not task.done():
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task
