"""One session: its calls, their order, what it remembers for later ones; knows no server."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tumbler.contracts.chat import ChatMessage, ChatReply, OnText
from tumbler.contracts.gateway import GatewayCall
from tumbler.contracts.values import JSONObject
from tumbler_backends.gateway.answering import Answerer, Call
from tumbler_backends.gateway.bodies import seen_bodies
from tumbler_backends.gateway.failures import FINAL, Refused, refusal
from tumbler_backends.gateway.flights import Flight, Flights, Sent
from tumbler_backends.gateway.journal import Journal
from tumbler_backends.gateway.settings import GatewaySettings
from tumbler_backends.gateway.wire.format import GatewayRequest, ReplyHead, WireFormat

__all__ = ["CLOSED", "LiveSession", "Terms"]

_PREFIXES: Final[Mapping[str, str]] = {"chat-completions": "chatcmpl-", "responses": "resp_", "messages": "msg_"}
CLOSED: Final = 499
"""What logs of servers say of a request whose client went away."""
_MOST_REFUSALS: Final = 1000
"""Requests that never became calls, of which a session keeps record, the last ones: a program may send any number."""
_LONGEST_ERROR: Final = 1000
"""Characters that are kept of what a client was told: such words may repeat what it sent."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a session is opened with."""

    name: str
    secret: str
    answerer: Answerer
    calls: int | None = None
    """Calls that are served at most; None for no bound."""
    journals: Sequence[Journal] = ()
    """Where its calls are written as they come."""
    number: Callable[[str, JSONObject], int] | None = None
    """Tells which recorded call a request is, by API and body, or refuses it; None counts them."""


class LiveSession:
    """A session that is open."""

    def __init__(self, terms: Terms, settings: GatewaySettings) -> None:
        """Answer by the terms."""
        self.terms = terms
        self.flights = Flights(grace=settings.retry_grace, remembered=settings.remembered)
        self.bodies = seen_bodies()
        self._settings = settings
        self._log: dict[int, GatewayCall | None] = {}
        """By the number of their arrival, and in its order; None for a call under way."""
        self._arrived = 0
        self._begun = 0
        self._refused: deque[int] = deque()
        """Which of them never became calls."""
        self._over = False
        self._answered: OrderedDict[str, tuple[ChatMessage, ...]] = OrderedDict()
        """Conversations by the id of their last answer."""

    @property
    def calls(self) -> Sequence[GatewayCall]:
        """Return the calls that are over, in the order of their arrival."""
        return [call for call in self._log.values() if call is not None]

    def begin(self, wire: WireFormat, request: GatewayRequest, body: JSONObject, sent: Sent) -> Flight:
        """Return the flight of a request, with its client counted in; a retry joins the flight of its first try."""
        self.require_open()
        joined = self.flights.join(sent)
        if joined is not None:
            return joined
        self._require_calls_left()
        request = self._go_on(request, body)
        place = self._arrived
        number = place if self.terms.number is None else self.terms.number(wire.name, body)
        call = Call(number=number, api=wire.name, body=body, request=request)
        head = ReplyHead(
            id=f"{_PREFIXES.get(wire.name, '')}{call.number:08d}",
            model=request.model or self._settings.model,
            created=int(time.time()),
        )
        self._arrive(None)
        self._begun += 1
        flight = Flight(sent, head)
        flight.start(lambda on_text: self._answer(place, call, head, on_text))
        self.flights.add(flight)
        return flight

    def note_refusal(self, wire: WireFormat, refused: Refused) -> None:
        """Record a request that never became a call."""
        self._refused.append(self._arrived)
        self._arrive(_failed(wire.name, refused))
        if len(self._refused) > _MOST_REFUSALS:
            del self._log[self._refused.popleft()]

    def require_open(self) -> None:
        """Refuse a request that came while the session was open, and was read when it was over."""
        if self._over:
            raise Refused(410, "session_over", "this session is over", headers=FINAL)

    async def end(self) -> None:
        """Cancel what is under way, and take no further calls."""
        self._over = True
        await self.flights.cancel(self._settings.shutdown_seconds)

    async def _answer(self, place: int, call: Call, head: ReplyHead, on_text: OnText) -> ChatReply:
        # What is neither answered nor refused was cancelled.
        outcome = GatewayCall(api=call.api, status=CLOSED, error="cancelled before there was an answer")
        try:
            reply = await self.terms.answerer.answer(call, on_text)
            outcome = GatewayCall(api=call.api, status=200, chunk=reply.chunk)
            self._keep(call, head, reply)
            self._note(call, reply)
            return reply
        except Exception as error:  # whoever answers is a plugin or the client of a server
            refused = refusal(error, session=self.terms.name)
            outcome = _failed(call.api, refused)
            self._note(call, refused)
            if refused is error:
                raise
            raise refused from error
        finally:
            self._log[place] = outcome

    def _arrive(self, outcome: GatewayCall | None) -> None:
        self._log[self._arrived] = outcome
        self._arrived += 1

    def _note(self, call: Call, outcome: ChatReply | Refused) -> None:
        for journal in self.terms.journals:
            journal.write(self.terms.name, call, outcome)

    def _keep(self, call: Call, head: ReplyHead, reply: ChatReply) -> None:
        if call.api != "responses":
            return
        # Instructions hold for one request.
        _, conversation = _without_instructions(call.request, call.body)
        self._answered[head.id] = (*conversation, reply.message)
        while len(self._answered) > self._settings.remembered:
            self._answered.popitem(last=False)

    def _go_on(self, request: GatewayRequest, body: JSONObject) -> GatewayRequest:
        """Put the conversation that a request goes on from before its own messages."""
        if request.previous is None:
            return request
        earlier = self._answered.get(request.previous)
        if earlier is None:
            message = f"there is no answer {request.previous!r} in this session to go on from"
            raise Refused(400, "previous_response_not_found", message, parameter="previous_response_id")
        instructions, messages = _without_instructions(request, body)
        return replace(request, messages=(*instructions, *earlier, *messages))

    def _require_calls_left(self) -> None:
        bound = self.terms.calls
        if bound is not None and self._begun >= bound:
            message = f"this session has made all of its {bound} calls; no further one will be answered"
            raise Refused(429, "insufficient_quota", message, headers=FINAL)


def _failed(api: str, refused: Refused) -> GatewayCall:
    return GatewayCall(api=api, status=refused.status, error=refused.message[:_LONGEST_ERROR])


def _without_instructions(
    request: GatewayRequest, body: JSONObject
) -> tuple[Sequence[ChatMessage], Sequence[ChatMessage]]:
    """Return the message that a request's instructions are read as, if it has any, and the others."""
    count = 1 if body.get("instructions") else 0
    return request.messages[:count], request.messages[count:]
