"""Calls under way and answered, and the retries that join them; knows no API and no model.

Whether a request is a retry is told by its headers alone, since two equal requests may well be two calls. An
`Idempotency-Key` names its call. The SDKs of OpenAI and Anthropic send none, but count their tries in
`x-stainless-retry-count`, with nothing that says which call is tried again; so such a retry joins a call that was
left without its answer and whose request was the same, byte by byte. Any of several is as good as another.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from tumbler.contracts.chat import ChatReply, OnText
from tumbler_backends.gateway.failures import Refused
from tumbler_backends.gateway.wire.format import ReplyHead

__all__ = ["Flight", "Flights", "Sent"]

_COUNT: Final = "x-stainless-retry-count"


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What identifies a request."""

    path: str
    digest: bytes
    key: str | None = None
    retries: int | None = None
    """How often the client has tried before; None where it does not tell."""

    @classmethod
    def of(cls, path: str, headers: Mapping[str, str], body: bytes) -> "Sent":
        """Read the headers, whose names are lower-case."""
        count = headers.get(_COUNT, "")
        return cls(
            path=path,
            digest=blake2b(body, digest_size=16).digest(),
            key=headers.get("idempotency-key") or None,
            retries=int(count) if count.isdecimal() and len(count) < 6 else None,
        )


class Flight:
    """One call, in a task of its own, and the clients that wait for it."""

    def __init__(self, sent: Sent, head: ReplyHead) -> None:
        """Prepare a call; `start` begins it."""
        self.sent = sent
        self.head = head
        self.waiting = 0
        self.pieces: list[str] = []
        """What was said so far, where the model tells."""
        self.grace: asyncio.TimerHandle | None = None
        """What cancels the call unless a client comes back for it."""
        self._listeners: set[asyncio.Future[None]] = set()
        self._task: asyncio.Task[ChatReply] | None = None

    def start(self, work: Callable[[OnText], Awaitable[ChatReply]]) -> None:
        """Begin the work."""

        async def run() -> ChatReply:
            return await work(self._hear)

        self._task = asyncio.create_task(run())

    @property
    def task(self) -> "asyncio.Task[ChatReply]":
        """Return the task of a call that was started."""
        assert self._task is not None
        return self._task

    async def next_event(self, seen: int, seconds: float) -> bool:
        """Wait until there are more than `seen` pieces or the call is over; tell whether that came in time."""
        if len(self.pieces) > seen or self.task.done():
            return True
        listener = asyncio.get_running_loop().create_future()
        self._listeners.add(listener)
        try:
            done, _ = await asyncio.wait({listener, self.task}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._listeners.discard(listener)
        return bool(done)

    async def _hear(self, piece: str) -> None:
        self.pieces.append(piece)
        for listener in self._listeners:
            if not listener.done():
                listener.set_result(None)


class Flights:
    """The calls of one session."""

    def __init__(self, *, grace: float, remembered: int) -> None:
        """Let a call that may be retried go on for `grace` seconds without a client; remember so many finished ones."""
        self._grace = grace
        self._remembered = remembered
        self._keyed: OrderedDict[tuple[str, str], Flight] = OrderedDict()
        self._left: OrderedDict[int, Flight] = OrderedDict()
        """Calls whose clients went away without an answer, oldest first."""
        self.active: set[Flight] = set()

    def join(self, sent: Sent) -> Flight | None:
        """Return the call that a request tries again; None if it is a new one.

        Raises:
            Refused: the key belongs to another request.
        """
        flight = self._find(sent)
        if flight is not None:
            self._left.pop(id(flight), None)
            _stop(flight.grace)
            flight.waiting += 1
        return flight

    def add(self, flight: Flight) -> None:
        """Take a new call in, with one client that waits for it."""
        flight.waiting = 1
        self.active.add(flight)
        if flight.sent.key is not None:
            self._keyed[flight.sent.path, flight.sent.key] = flight
            _bound(self._keyed, self._remembered)
        flight.task.add_done_callback(lambda task: self._landed(flight, task))

    def leave(self, flight: Flight, *, delivered: bool, resumable: bool) -> None:
        """Note that a client waits no more; a call that nobody waits for, nor may ask for again, is cancelled."""
        flight.waiting -= 1
        if delivered or flight.waiting:
            return
        over = flight.task.done()
        if resumable and (over or self._grace):
            self._left[id(flight)] = flight
            _bound(self._left, self._remembered)
            if not over:
                flight.grace = asyncio.get_running_loop().call_later(self._grace, self._give_up, flight)
        elif not over:
            self._give_up(flight)

    async def cancel(self, seconds: float) -> None:
        """Cancel all calls and wait for their ends, so long at most."""
        tasks = {flight.task for flight in self.active}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    def _find(self, sent: Sent) -> Flight | None:
        if sent.key is not None:
            flight = self._keyed.get((sent.path, sent.key))
            if flight is not None and flight.sent.digest != sent.digest:
                message = "this Idempotency-Key was sent with another request; use a new one for each call"
                raise Refused(422, "invalid_request_error", message)
            return flight
        if not sent.retries:
            return None
        same = (flight for flight in self._left.values() if flight.sent.key is None and _again(flight.sent, sent))
        return next(same, None)

    def _give_up(self, flight: Flight) -> None:
        """Cancel a call that nobody waits for. It may take its time to end, and no retry is to join it then."""
        self._forget(flight)
        flight.task.cancel()

    def _forget(self, flight: Flight) -> None:
        self._left.pop(id(flight), None)
        key = (flight.sent.path, flight.sent.key or "")
        if self._keyed.get(key) is flight:
            del self._keyed[key]

    def _landed(self, flight: Flight, task: "asyncio.Task[ChatReply]") -> None:
        self.active.discard(flight)
        _stop(flight.grace)
        # What brought no reply is tried anew; looking at the error marks it as seen, also where no client is left.
        if task.cancelled() or task.exception() is not None:
            self._forget(flight)


def _again(first: Sent, later: Sent) -> bool:
    return (first.path, first.digest) == (later.path, later.digest) and (first.retries or 0) < (later.retries or 0)


def _stop(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def _bound(kept: "OrderedDict[tuple[str, str], Flight] | OrderedDict[int, Flight]", most: int) -> None:
    """Forget the oldest beyond `most`; a call under way ends by itself all the same."""
    while len(kept) > most:
        kept.popitem(last=False)
