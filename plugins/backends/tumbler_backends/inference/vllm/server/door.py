"""The server's HTTP: one request for each connection, JSON both ways, a secret in a header.

It knows no engine. A caller that hangs up cancels what it asked for.
"""

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TypeAlias

__all__ = ["Door", "Handler", "Refusal"]

Body: TypeAlias = dict[str, object]
Handler: TypeAlias = Callable[[Body], Awaitable[Mapping[str, object]]]

_HEADER_BYTES = 1 << 16
_BODY_BYTES = 1 << 28
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 500: "Internal Server Error"}


class Refusal(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str) -> None:
        """Keep the status beside the message."""
        super().__init__(message)
        self.status = status


class Door:
    """Listens, and hands requests to the handlers of their paths."""

    def __init__(self, handlers: Mapping[str, Handler], *, secret: str) -> None:
        """Serve the paths to those who know the secret."""
        self._handlers = handlers
        self._secret = secret

    async def open(self, host: str, port: int) -> int:
        """Listen and return the port; 0 takes a free one."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=_HEADER_BYTES, backlog=1024)
        return int(self._server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            try:
                status, answer = 200, await self._answer(reader)
            except Refusal as refusal:
                status, answer = refusal.status, {"error": str(refusal)}
            if answer is not None:
                payload = json.dumps(answer).encode()
                head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\n"
                head += f"Content-Length: {len(payload)}\r\nConnection: close\r\n\r\n"
                writer.write(head.encode() + payload)
                await writer.drain()
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> Mapping[str, object] | None:
        """Return the handler's answer; None if the caller has hung up."""
        path, body = await self._read(reader)
        handler = self._handlers.get(path)
        if handler is None:
            raise Refusal(404, f"there is no {path}; there are {', '.join(self._handlers)}")
        work = asyncio.ensure_future(handler(body))
        hung_up = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait([work, hung_up], return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                return None
            return work.result()
        except (KeyError, ValueError, TypeError) as error:
            raise Refusal(400, f"{type(error).__name__}: {error}") from error
        except (RuntimeError, OSError) as error:
            raise Refusal(500, f"{type(error).__name__}: {error}") from error
        finally:
            hung_up.cancel()
            work.cancel()
            await asyncio.wait([work, hung_up])

    async def _read(self, reader: asyncio.StreamReader) -> tuple[str, Body]:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        parts = head[0].split(" ")
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        if len(parts) != 3:
            raise Refusal(400, "this is no HTTP")
        if not hmac.compare_digest(fields.get("authorization", ""), f"Bearer {self._secret}"):
            raise Refusal(401, "the secret is missing or another server's")
        length = fields.get("content-length", "0")
        if not length.isdigit() or int(length) > _BODY_BYTES:
            raise Refusal(400, f"a body of {length} bytes; expected at most {_BODY_BYTES}")
        try:
            body = json.loads(await reader.readexactly(int(length)) or "{}")
        except ValueError as error:
            raise Refusal(400, f"the body is no JSON: {error}") from error
        if not isinstance(body, dict):
            raise Refusal(400, "the body is no JSON object")
        return parts[1], body
