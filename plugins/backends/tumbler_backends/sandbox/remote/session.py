"""A shell session of a remote sandbox."""

import asyncio
import uuid
from typing import Final

from tumbler.contracts.sandbox import ExecResult
from tumbler.errors import SandboxDied, SessionEnded
from tumbler_backends.sandbox.remote.runs import run
from tumbler_backends.sandbox.remote.scope import Scope
from tumbler_backends.sandbox.wire.answers import ExecAnswer
from tumbler_backends.sandbox.wire.fields import Answer, WireBytes
from tumbler_backends.sandbox.wire.requests import ExpectBody, RunBody, SessionBody

__all__ = ["RemoteSession"]

_OPEN_S: Final = 60.0
_CLOSE_S: Final = 30.0


class _Match(Answer):
    output: WireBytes


class RemoteSession:
    """One session; see `tumbler.contracts.sandbox.Session` and `InteractiveSession` for what each method promises."""

    def __init__(self, scope: Scope) -> None:
        """Speak of the session at this place."""
        self._scope = scope
        self._turn = asyncio.Lock()
        """Requests of one client may overtake each other; commands of one session must not."""
        self._timeout = 0.0
        self._closed = False

    @classmethod
    async def open(cls, scope: Scope) -> "RemoteSession":
        """Open a session in the sandbox at this place."""
        identity = uuid.uuid4().hex
        await scope.ask("POST", "/sessions", body=SessionBody(session_id=identity), seconds=_OPEN_S, repeat=True)
        return cls(scope.below("sessions", identity))

    async def run(self, command: str, *, timeout: float = 60.0, max_output: int = 1 << 20) -> ExecResult:
        """Run one shell command, first come first served."""
        body = RunBody(command=command, exec_id=uuid.uuid4().hex, timeout=timeout, max_output=max_output)
        async with self._turn:
            self._require_open()
            return await run(self._scope, "/run", body)

    async def start(self, command: str, *, timeout: float = 60.0, max_output: int = 1 << 20) -> None:
        """Start a command whose stdin stays open, and return at once."""
        async with self._turn:
            self._require_open()
            self._timeout = timeout
            body = RunBody(command=command, timeout=timeout, max_output=max_output)
            await self._scope.ask("POST", "/start", body=body, seconds=_OPEN_S)

    async def send(self, data: bytes) -> None:
        """Send bytes to the started command's stdin."""
        await self._scope.ask("POST", "/send", body=data)

    async def expect(self, pattern: bytes, *, timeout: float = 60.0) -> bytes:
        """Wait until a regular expression occurs in the started command's stdout."""
        body = ExpectBody(pattern=pattern, timeout=timeout)
        response = await self._scope.ask("POST", "/expect", body=body, seconds=timeout)
        return _Match.model_validate_json(response.content).output

    async def interrupt(self) -> None:
        """Send SIGINT to the running command."""
        await self._scope.ask("POST", "/interrupt")

    async def finish(self) -> ExecResult:
        """End the started command's stdin and wait for its result."""
        response = await self._scope.ask("POST", "/finish", seconds=self._timeout + _CLOSE_S)
        return ExecAnswer.model_validate_json(response.content).value()

    async def close(self) -> None:
        """End the shell and all that it started."""
        self._closed = True
        try:
            await self._scope.ask("DELETE", "", seconds=_CLOSE_S, repeat=True)
        except SandboxDied:
            return

    def _require_open(self) -> None:
        if self._closed:
            raise SessionEnded("the session was closed")
