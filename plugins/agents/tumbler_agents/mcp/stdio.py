"""Carries messages over a process's standard input and output, one JSON text a line; junk is passed over."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp.types import jsonrpc_message_adapter

from tumbler_agents.mcp.process import ServerProcess

__all__ = ["Streams", "speaking"]

Incoming = SessionMessage | Exception
Streams = tuple[MemoryObjectReceiveStream[Incoming], MemoryObjectSendStream[SessionMessage]]

_FLUSH_S: Final = 0.5


@asynccontextmanager
async def speaking(process: ServerProcess) -> AsyncGenerator[Streams, None]:
    """Yield the streams that the protocol's session speaks through.

    The incoming one ends as soon as the process or its output does, so that no call waits for a dead server.
    """
    heard, incoming = anyio.create_memory_object_stream[Incoming](0)
    outgoing, said = anyio.create_memory_object_stream[SessionMessage](0)
    reading = asyncio.create_task(_read(process, heard))
    writing = asyncio.create_task(_write(process, said, heard))
    watching = asyncio.create_task(_watch(process, reading))
    try:
        yield incoming, outgoing
    finally:
        for task in (reading, writing, watching):
            task.cancel()
        await asyncio.wait((reading, writing, watching))
        for stream in (heard, incoming, outgoing, said):
            stream.close()


async def _read(process: ServerProcess, heard: MemoryObjectSendStream[Incoming]) -> None:
    # A line past any measure, a connection that breaks, a session that is gone: each ends the conversation.
    with heard, contextlib.suppress(ValueError, OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        while line := await process.read_line():
            with contextlib.suppress(ValueError):
                message = jsonrpc_message_adapter.validate_json(line, by_name=False)
                await heard.send(SessionMessage(message))


async def _write(
    process: ServerProcess, said: MemoryObjectReceiveStream[SessionMessage], heard: MemoryObjectSendStream[Incoming]
) -> None:
    try:
        async for each in said:
            text = each.message.model_dump_json(by_alias=True, exclude_unset=True)
            process.write(text.encode() + b"\n")
    except OSError:
        heard.close()


async def _watch(process: ServerProcess, reading: "asyncio.Task[None]") -> None:
    """End the reading once the process has ended, also where a child of it keeps the pipe open."""
    await process.exited()
    await asyncio.wait((reading,), timeout=_FLUSH_S)
    reading.cancel()
