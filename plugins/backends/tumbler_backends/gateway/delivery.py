"""How the answer of a call gets to its client: whole or as events; a client that goes away leaves the call."""

import asyncio
import json
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from aiohttp import web

from tumbler.contracts.chat import ChatReply
from tumbler_backends.gateway.failures import FINAL, Refused
from tumbler_backends.gateway.flights import Flight
from tumbler_backends.gateway.session import LiveSession
from tumbler_backends.gateway.wire.format import EventWriter, GatewayRequest, WireFormat

__all__ = ["stream", "whole"]

_PATIENCE_S: Final = 1.0
"""How long a stream waits for the first of its answer: what fails that soon is answered with a status of its own."""
_COMMENT: Final = b": keep-alive\n\n"


async def whole(
    request: web.Request, wire: WireFormat, asked: GatewayRequest, session: LiveSession, flight: Flight
) -> web.StreamResponse:
    """Answer when the call is over."""
    with _waiting(session, flight) as visit:
        await asyncio.wait({flight.task})
        body = wire.write(_reply(flight), asked, flight.head)
        encoded = json.dumps(body, ensure_ascii=True, separators=(",", ":")).encode()
        response = web.Response(body=encoded, content_type="application/json")
        await response.prepare(request)
        await response.write_eof()
        visit.delivered = True
        return response


async def stream(
    request: web.Request,
    wire: WireFormat,
    asked: GatewayRequest,
    session: LiveSession,
    flight: Flight,
    *,
    keep_alive: float,
) -> web.StreamResponse:
    """Answer with events as they come, and with a comment after each `keep_alive` seconds of silence."""
    with _waiting(session, flight) as visit:
        await flight.next_event(0, min(_PATIENCE_S, keep_alive))
        if flight.task.done() and not flight.pieces:
            _reply(flight)  # what failed gets a status
        response = web.StreamResponse(headers={"content-type": "text/event-stream", "cache-control": "no-cache"})
        await response.prepare(request)
        # Clients try no answer again that has begun, unless they gave the call a name.
        visit.resumable = flight.sent.key is not None
        await _events(response, wire.events(asked, flight.head), flight, keep_alive)
        await response.write_eof()
        visit.delivered = True
        return response


async def _events(response: web.StreamResponse, writer: EventWriter, flight: Flight, keep_alive: float) -> None:
    waiting, seen = writer.start(), 0
    while not (flight.task.done() and seen == len(flight.pieces)):
        if waiting:
            await response.write(waiting)
            waiting = b""
        if not await flight.next_event(seen, keep_alive):
            await response.write(_COMMENT)
        new = flight.pieces[seen:]
        waiting, seen = b"".join(writer.text(piece) for piece in new), seen + len(new)
    try:
        waiting += writer.finish(_reply(flight))
    except Refused as refused:
        waiting += writer.fail(refused.status, refused.kind, refused.message)
    await response.write(waiting)


class _Visit:
    """One client's wait for a call."""

    def __init__(self, *, resumable: bool) -> None:
        self.delivered = False
        self.resumable = resumable
        """Whether the client may come back for the answer if it goes away without one."""


@contextmanager
def _waiting(session: LiveSession, flight: Flight) -> Generator[_Visit, None, None]:
    visit = _Visit(resumable=flight.sent.key is not None or flight.sent.retries is not None)
    try:
        yield visit
    except Refused:
        visit.delivered = True  # the refusal is the answer
        raise
    finally:
        session.flights.leave(flight, delivered=visit.delivered, resumable=visit.resumable)


def _reply(flight: Flight) -> ChatReply:
    if flight.task.cancelled():
        raise Refused(410, "session_over", "the session ended before there was an answer", headers=FINAL)
    return flight.task.result()
