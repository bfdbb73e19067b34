"""The code-interpreter add-on over HTTP: /execute and /contexts, at the port 49999 of every sandbox."""

import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tumbler_backends.sandbox.service.e2b.boxes import Box, Boxes, routed
from tumbler_backends.sandbox.service.e2b.faults import RefusedError
from tumbler_backends.sandbox.service.e2b.file_http import refusal
from tumbler_backends.sandbox.service.e2b.framing import Json, while_connected
from tumbler_backends.sandbox.service.e2b.messages import mapping, text

__all__ = ["code_routes"]

_PORT: Final = 49999


def code_routes(boxes: Boxes) -> list[Route]:
    """Return the routes."""

    def route(path: str, method: str, answer: Callable[[Box, Request], Awaitable[Response]]) -> Route:
        async def respond(request: Request) -> Response:
            try:
                if routed(request)[1] != _PORT:
                    raise RefusedError(404, f"{path} is served at the sandbox's port {_PORT} only")
                return await answer(await boxes.opened(request, traffic=True), request)
            except Exception as error:  # noqa: BLE001  # whatever a backend raises is told to the client
                return refusal(error, request)

        return Route(path, respond, methods=[method])

    return [
        route("/execute", "POST", _execute),
        route("/contexts", "GET", _list),
        route("/contexts", "POST", _create),
        route("/contexts/{context}", "DELETE", _remove),
        route("/contexts/{context}/restart", "POST", _restart),
    ]


async def _execute(box: Box, request: Request) -> Response:
    body = await _body(request)
    context = await box.contexts.chosen(box.sandbox, text(body, "context_id"), text(body, "language"))
    environment = {name: str(value) for name, value in mapping(body, "env_vars").items()}
    return _Lines(box.contexts.execute(context, text(body, "code"), environment), request)


class _Lines(Response):
    """Events as JSON lines; the cell is interrupted when the client goes away."""

    def __init__(self, events: AsyncGenerator[Json, None], request: Request) -> None:
        super().__init__(media_type="application/json")
        del self.headers["content-length"]
        self._events = events
        self._request = request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def work() -> None:
            async with contextlib.aclosing(self._events):
                try:
                    first = await anext(self._events)
                except Exception as error:  # noqa: BLE001  # a missing interpreter shows here, before the status is sent
                    await refusal(error, self._request)(scope, receive, send)
                    return
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await _send_line(send, first)
                async for event in self._events:
                    await _send_line(send, event)
                await send({"type": "http.response.body", "body": b""})

        await while_connected(receive, work())


async def _send_line(send: Send, event: Json) -> None:
    await send({"type": "http.response.body", "body": json.dumps(event).encode() + b"\n", "more_body": True})


async def _list(box: Box, _request: Request) -> Response:
    return JSONResponse(box.contexts.listed())


async def _create(box: Box, request: Request) -> Response:
    body = await _body(request)
    language, cwd = text(body, "language") or "python", text(body, "cwd") or None
    context = await box.contexts.create(box.sandbox, language=language, cwd=cwd)
    return JSONResponse(context.described(), 201)


async def _remove(box: Box, request: Request) -> Response:
    await box.contexts.remove(request.path_params["context"])
    return Response(status_code=204)


async def _restart(box: Box, request: Request) -> Response:
    identity = request.path_params["context"]
    await box.contexts.restart(box.sandbox, identity)
    return JSONResponse(box.contexts.find(identity).described())


async def _body(request: Request) -> Json:
    with contextlib.suppress(ValueError):
        body = await request.json()
        if isinstance(body, dict):
            return body
    raise RefusedError(400, "the body is no JSON object")
