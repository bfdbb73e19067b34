"""One call of a server: HTTP with JSON both ways, a connection for each, so that hanging up cancels it."""

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tumbler.errors import InferenceError

__all__ = ["Address", "ServerGoneError", "ServerRefusedError"]


class ServerGoneError(InferenceError):
    """The server cannot be reached, or hung up before it had answered."""

    def __init__(self, message: str, *, reached: bool = True) -> None:
        """Keep whether the request may have reached the server."""
        super().__init__(message)
        self.reached = reached


class ServerRefusedError(InferenceError):
    """The server answered that it cannot do what was asked."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a server listens."""

    host: str
    port: int
    secret: str

    async def call(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        """Return the answer.

        Raises `ServerGoneError` without one, and `ServerRefusedError` for one that is an error. It has no bound
        on time of its own; cancelling it hangs up.
        """
        try:
            status, answer = await self._exchange(path, json.dumps(body).encode())
        except (OSError, EOFError, ValueError, IndexError) as error:
            raise ServerGoneError(
                f"the vLLM server at {self.host}:{self.port} gave no answer: {type(error).__name__} {error}".rstrip(),
                reached=not isinstance(error, ConnectionRefusedError),
            ) from error
        if status != 200:
            raise ServerRefusedError(f"the vLLM server answered {status}: {answer.get('error')}")
        return answer

    async def _exchange(self, path: str, payload: bytes) -> tuple[int, dict[str, Any]]:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            head = f"POST {path} HTTP/1.1\r\nHost: {self.host}\r\nAuthorization: Bearer {self.secret}\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
            writer.write(head.encode() + payload)
            await writer.drain()
            received, _, body = (await reader.read()).partition(b"\r\n\r\n")
            return int(received.split(b" ", 2)[1]), json.loads(body)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
