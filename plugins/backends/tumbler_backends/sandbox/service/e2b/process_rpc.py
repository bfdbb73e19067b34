"""The RPC service process.Process."""

import contextlib
import signal
from collections.abc import AsyncGenerator
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tumbler_backends.sandbox.service.e2b.boxes import Box, Boxes
from tumbler_backends.sandbox.service.e2b.faults import RpcError, rpc_error
from tumbler_backends.sandbox.service.e2b.framing import FrameStream, Json, deadline_of, frames_of
from tumbler_backends.sandbox.service.e2b.messages import mapping, octets
from tumbler_backends.sandbox.service.e2b.process_events import events_of
from tumbler_backends.sandbox.service.e2b.processes import StartedProcess, size_of
from tumbler_backends.sandbox.service.e2b.services import failed, keepalive_of, opened, stream_route, unary_route

__all__ = ["process_routes"]

_SIGNALS: Final = {"SIGNAL_SIGTERM": 15, "SIGNAL_SIGKILL": 9}


def process_routes(boxes: Boxes) -> list[Route]:
    """Return the routes."""

    async def stream_input(request: Request) -> Response:
        try:
            await _take_input(boxes, request)
        except Exception as error:  # noqa: BLE001  # whatever a backend raises is told to the client
            return FrameStream(failed(error))
        return FrameStream(_nothing())

    service = "/process.Process"
    return [
        stream_route(boxes, f"{service}/Start", _start),
        stream_route(boxes, f"{service}/Connect", _connect),
        unary_route(boxes, f"{service}/List", _list),
        unary_route(boxes, f"{service}/SendInput", _send_input),
        Route(f"{service}/StreamInput", stream_input, methods=["POST"]),
        unary_route(boxes, f"{service}/CloseStdin", _close_stdin),
        unary_route(boxes, f"{service}/SendSignal", _send_signal),
        unary_route(boxes, f"{service}/Update", _update),
    ]


async def _start(box: Box, message: Json, request: Request) -> AsyncGenerator[Json, None]:
    deadline = deadline_of(request.headers)
    started = await box.processes.start(box.sandbox, message, deadline)
    # The process has the deadline itself, and is killed by it also when nobody listens.
    async with contextlib.aclosing(events_of(started, keepalive=keepalive_of(request), deadline=None)) as events:
        async for event in events:
            yield {"event": event}


async def _connect(box: Box, message: Json, request: Request) -> AsyncGenerator[Json, None]:
    started = await box.processes.find(box.sandbox, mapping(message, "process"))
    await started.skip_to_now()
    deadline = deadline_of(request.headers)
    async with contextlib.aclosing(events_of(started, keepalive=keepalive_of(request), deadline=deadline)) as events:
        async for event in events:
            yield {"event": event}


async def _list(box: Box, _message: Json) -> Json:
    return {"processes": await box.processes.listed(box.sandbox)}


async def _send_input(box: Box, message: Json) -> Json:
    started = await box.processes.running(box.sandbox, mapping(message, "process"))
    await _write(started, mapping(message, "input"))
    return {}


async def _take_input(boxes: Boxes, request: Request) -> None:
    box = await opened(boxes, request)
    started: StartedProcess | None = None
    async for message in frames_of(request):
        if "start" in message:
            selector = mapping(mapping(message, "start"), "process")
            started = await box.processes.running(box.sandbox, selector)
        elif "data" in message:
            if started is None:
                raise RpcError("invalid_argument", "the stream must begin with a start message")
            await _write(started, mapping(mapping(message, "data"), "input"))


async def _nothing() -> AsyncGenerator[Json, None]:
    yield {}


async def _close_stdin(box: Box, message: Json) -> Json:
    started = await box.processes.running(box.sandbox, mapping(message, "process"))
    if started.terminal:
        raise RpcError("failed_precondition", "a terminal has no stdin to close: send Ctrl+D (0x04)")
    await started.process.close_stdin()
    return {}


async def _send_signal(box: Box, message: Json) -> Json:
    started = await box.processes.running(box.sandbox, mapping(message, "process"))
    asked = message.get("signal")
    # Clients of this server may send any number; E2B's own has names for two.
    number = asked if isinstance(asked, int) else _SIGNALS.get(str(asked), 0)
    if not 0 < number < signal.NSIG:
        raise RpcError("invalid_argument", f"signal {asked!r} is neither a number nor one of {', '.join(_SIGNALS)}")
    await started.process.signal(number)
    return {}


async def _update(box: Box, message: Json) -> Json:
    started = await box.processes.running(box.sandbox, mapping(message, "process"))
    if terminal := mapping(message, "pty"):
        await started.process.resize(size_of(terminal))
    return {}


async def _write(started: StartedProcess, given: Json) -> None:
    kind = "pty" if started.terminal else "stdin"
    data = octets(given, kind)
    if data is None:
        raise RpcError("invalid_argument", f"the process takes input of the kind {kind!r}")
    try:
        await started.process.write_stdin(data)
    except BrokenPipeError as error:
        raise rpc_error(error) from error
