"""What the two RPC services share: their routes, and the way from a request to an open sandbox."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final, TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tumbler_backends.sandbox.service.e2b.boxes import Box, Boxes
from tumbler_backends.sandbox.service.e2b.faults import RefusedError, RpcError
from tumbler_backends.sandbox.service.e2b.framing import FrameStream, Json, one_message, unary
from tumbler_backends.sandbox.service.e2b.users import require_user

__all__ = ["StreamAnswer", "UnaryAnswer", "failed", "keepalive_of", "opened", "stream_route", "unary_route"]

UnaryAnswer: TypeAlias = Callable[[Box, Json], Awaitable[Json]]
StreamAnswer: TypeAlias = Callable[[Box, Json, Request], AsyncGenerator[Json, None]]

_KEEPALIVE_S: Final = 90.0


def unary_route(boxes: Boxes, path: str, answer: UnaryAnswer) -> Route:
    """Return the route of an RPC with one message each way."""

    async def respond(request: Request) -> Response:
        async def answered(message: Json) -> Json:
            return await answer(await opened(boxes, request), message)

        return await unary(request, answered)

    return Route(path, respond, methods=["POST"])


def stream_route(boxes: Boxes, path: str, answer: StreamAnswer) -> Route:
    """Return the route of an RPC that answers with a stream; errors before its first message are in the stream too."""

    async def respond(request: Request) -> Response:
        try:
            # All of the request is read here: the stream of answers watches the connection for the client's going.
            message = await one_message(request)
            box = await opened(boxes, request)
        except RpcError as error:
            return FrameStream(failed(error))
        return FrameStream(answer(box, message, request))

    return Route(path, respond, methods=["POST"])


async def failed(error: Exception) -> AsyncGenerator[Json, None]:
    """Be a stream that only tells of an error."""
    raise error
    yield {}  # what makes this a generator


async def opened(boxes: Boxes, request: Request) -> Box:
    """Return the sandbox of an RPC; what is wrong is an `RpcError`."""
    try:
        box = await boxes.opened(request)
    except RefusedError as error:
        code = {401: "unauthenticated", 502: "unavailable"}.get(error.status, "invalid_argument")
        raise RpcError(code, error.message) from error
    require_user(request, box.sandbox)
    return box


def keepalive_of(request: Request) -> float:
    """Return the seconds of silence after which the client wants a sign of life."""
    asked = request.headers.get("keepalive-ping-interval", "")
    return float(asked) if asked.isdecimal() and int(asked) else _KEEPALIVE_S
