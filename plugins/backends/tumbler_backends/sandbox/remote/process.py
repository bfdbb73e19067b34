"""A spawned process of a remote sandbox."""

import time
from collections.abc import AsyncIterator
from typing import Final

from pydantic import TypeAdapter

from tumbler.contracts.sandbox_process import OutputSlice, ProcessExit, Stream, TerminalSize
from tumbler_backends.sandbox.remote.scope import Scope
from tumbler_backends.sandbox.wire.answers import ExitAnswer
from tumbler_backends.sandbox.wire.requests import SignalBody, SizeBody

__all__ = ["RemoteProcess"]

_POLL_S: Final = 20.0
"""One request waits no longer than this: what lies between may cut idle connections."""
_PIECE_BYTES: Final = 1 << 18
_KILL_S: Final = 60.0
_EXIT: Final[TypeAdapter[ExitAnswer | None]] = TypeAdapter(ExitAnswer | None)


class RemoteProcess:
    """One process; see `tumbler.contracts.sandbox_process.Process` for what each method promises."""

    def __init__(self, scope: Scope, exec_id: str, pid: int | None) -> None:
        """Speak of the process `exec_id`."""
        self._scope = scope.below("processes", exec_id)
        self._exec_id = exec_id
        self._pid = pid

    @property
    def exec_id(self) -> str:
        """Return the id it was spawned under."""
        return self._exec_id

    @property
    def pid(self) -> int | None:
        """Return the process id as the backend knows it."""
        return self._pid

    async def read(
        self, stream: Stream = "stdout", *, offset: int = 0, limit: int = 1 << 16, timeout: float = 60.0
    ) -> OutputSlice:
        """Return what the stream holds from byte `offset` on; wait for the first byte."""
        deadline = time.monotonic() + timeout
        while True:
            wait = min(max(deadline - time.monotonic(), 0.0), _POLL_S)
            piece = await self._piece(stream, offset, limit, wait)
            if piece.data or piece.end or time.monotonic() >= deadline:
                return piece

    async def follow(self, stream: Stream = "stdout", *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield the stream from byte `offset` on until it ends."""
        while True:
            piece = await self._piece(stream, offset, _PIECE_BYTES, _POLL_S)
            if piece.data:
                yield piece.data
            offset = piece.offset + len(piece.data)
            if piece.end:
                return

    async def write_stdin(self, data: bytes) -> None:
        """Send bytes to its standard input."""
        await self._scope.ask("POST", "/stdin", body=data)

    async def close_stdin(self) -> None:
        """End its standard input."""
        await self._scope.ask("DELETE", "/stdin", repeat=True)

    async def signal(self, number: int) -> None:
        """Send a signal to the process and its children."""
        await self._scope.ask("POST", "/signal", body=SignalBody(number=number))

    async def resize(self, size: TerminalSize) -> None:
        """Set the size of its terminal."""
        await self._scope.ask("PUT", "/size", body=SizeBody(columns=size.columns, rows=size.rows), repeat=True)

    async def poll(self) -> ProcessExit | None:
        """Return how it ended; None while it runs."""
        return await self._exit(0.0)

    async def wait(self, timeout: float | None = None) -> ProcessExit:
        """Wait for its end; raises `TimeoutError`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _POLL_S if deadline is None else max(deadline - time.monotonic(), 0.0)
            ended = await self._exit(min(left, _POLL_S))
            if ended is not None:
                return ended
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"the process {self._exec_id} did not end within {timeout:g} s")

    async def kill(self) -> ProcessExit:
        """End it and all its children."""
        response = await self._scope.ask("DELETE", "", seconds=_KILL_S, repeat=True)
        return ExitAnswer.model_validate_json(response.content).value()

    async def _piece(self, stream: Stream, offset: int, limit: int, wait: float) -> OutputSlice:
        query = {"stream": stream, "offset": offset, "limit": min(max(limit, 1), 1 << 22), "timeout": wait}
        response = await self._scope.ask("GET", "/output", query=query, seconds=wait, repeat=True)
        begin, end = response.headers["Tumbler-Offset"], response.headers["Tumbler-End"]
        return OutputSlice(data=response.content, offset=int(begin), end=end == "1")

    async def _exit(self, wait: float) -> ProcessExit | None:
        response = await self._scope.ask("GET", "/exit", query={"timeout": wait}, seconds=wait, repeat=True)
        answer = _EXIT.validate_json(response.content)
        return None if answer is None else answer.value()
