"""The Connect protocol with its JSON codec, as much as E2B's clients speak; knows no service.

It is written out here, and not taken from the server stubs of the `e2b` package: it is little, and a
server would otherwise need the client's SDK with its native transports.
"""

import asyncio
import contextlib
import json
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Final, TypeAlias

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from tumbler_backends.sandbox.service.e2b.faults import HTTP_STATUS, RpcError, rpc_error

__all__ = [
    "FrameStream",
    "Json",
    "deadline_of",
    "error_response",
    "frame",
    "frames_of",
    "one_message",
    "unary",
    "while_connected",
]

Json: TypeAlias = dict[str, object]
"""A message."""

_HEADER: Final = struct.Struct(">BI")
_COMPRESSED: Final = 1
_END: Final = 2
_MESSAGE_BYTES: Final = 64 << 20
"""The longest message that is read."""


def frame(message: Json, flags: int = 0) -> bytes:
    """Return a message in its five-byte envelope."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return _HEADER.pack(flags, len(body)) + body


async def frames_of(request: Request) -> AsyncIterator[Json]:
    """Yield the messages of a streamed request as they come."""
    buffer = bytearray()
    async for piece in request.stream():
        buffer += piece
        while len(buffer) >= _HEADER.size:
            flags, size = _HEADER.unpack_from(buffer)
            if flags & _COMPRESSED:
                raise RpcError("unimplemented", "compressed messages are not understood: send them plain")
            if size > _MESSAGE_BYTES:
                raise RpcError("resource_exhausted", f"a message of {size} bytes; the most is {_MESSAGE_BYTES}")
            if len(buffer) < _HEADER.size + size:
                break
            body = bytes(buffer[_HEADER.size : _HEADER.size + size])
            del buffer[: _HEADER.size + size]
            if not flags & _END:
                yield _parsed(body)


async def one_message(request: Request) -> Json:
    """Return the only message of a request to a server stream."""
    async for message in frames_of(request):
        return message
    raise RpcError("invalid_argument", "the request holds no message")


async def unary(request: Request, answer: Callable[[Json], Awaitable[Json]]) -> Response:
    """Answer a request of one message with one message."""
    if not request.headers.get("content-type", "").startswith("application/json"):
        return Response(status_code=415, headers={"accept-post": "application/json"})
    try:
        if int(request.headers.get("content-length", "0") or 0) > _MESSAGE_BYTES:
            raise RpcError("resource_exhausted", f"a message may have {_MESSAGE_BYTES} bytes at most")
        async with asyncio.timeout(deadline_of(request.headers)):
            return JSONResponse(await answer(_parsed(await request.body() or b"{}")))
    except TimeoutError:
        return error_response(RpcError("deadline_exceeded", "the deadline of the request has passed"))
    except Exception as error:  # noqa: BLE001  # whatever a backend raises is told to the client
        return error_response(rpc_error(error))


def error_response(error: RpcError) -> Response:
    """Return an error as the answer of a unary call."""
    return JSONResponse({"code": error.code, "message": error.message}, HTTP_STATUS[error.code])


def deadline_of(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the client gives; None is no limit."""
    value = headers.get("connect-timeout-ms", "")
    return int(value) / 1000 if value.isdecimal() and int(value) else None


class FrameStream(Response):
    """Messages as they come, ended by one that says how it went; stops when the client goes away."""

    media_type = "application/connect+json"

    def __init__(self, messages: AsyncGenerator[Json, None]) -> None:
        """Take the messages; an exception among them becomes the error at the end."""
        super().__init__()
        del self.headers["content-length"]
        self._messages = messages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all, or stop early."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await while_connected(receive, self._send_all(send))

    async def _send_all(self, send: Send) -> None:
        end: Json = {}
        try:
            async with contextlib.aclosing(self._messages):
                async for message in self._messages:
                    await send(_body(frame(message), more=True))
        except Exception as error:  # noqa: BLE001  # whatever a backend raises is told to the client
            told = rpc_error(error)
            end = {"error": {"code": told.code, "message": told.message}}
        with contextlib.suppress(OSError):  # the client has gone
            await send(_body(frame(end, _END), more=False))


async def while_connected(receive: Receive, work: Coroutine[object, object, None]) -> None:
    """Do some work, and break it off when the client goes away; all of the request must have been read."""
    worker = asyncio.create_task(work)
    listener = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait((worker, listener), return_when=asyncio.FIRST_COMPLETED)
        if worker.done():
            worker.result()
    finally:
        worker.cancel()
        listener.cancel()
        await asyncio.gather(worker, listener, return_exceptions=True)


def _body(data: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _parsed(body: bytes) -> Json:
    try:
        message = json.loads(body)
    except ValueError as error:
        raise RpcError("invalid_argument", f"the message is no JSON: {error}") from error
    if not isinstance(message, dict):
        raise RpcError("invalid_argument", "the message is no JSON object")
    return message
