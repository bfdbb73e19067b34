"""A thread without an event loop: contexts that stay open, and messages that can be interrupted."""

import asyncio
import threading
from contextlib import asynccontextmanager

import pytest

from tumbler.cli.agents.holding import Held, Turn
from tumbler.contracts.conversation import CallEnded, Done, Notice, Said
from tumbler.errors import SandboxUnavailable
from tumbler.sandboxes.background import BackgroundLoop


@pytest.fixture
def loop():
    loop = BackgroundLoop()
    yield loop
    loop.stop()


def test_a_context_is_open_between_beginning_and_end_in_one_task(loop):
    seen = []

    @asynccontextmanager
    async def context():
        seen.append(asyncio.current_task())
        yield "value"
        seen.append(asyncio.current_task())

    with Held(loop, context()) as value:
        assert value == "value" and len(seen) == 1
    assert seen[0] is seen[1] is not None


def test_what_the_beginning_and_the_end_raise_is_raised_here(loop):
    @asynccontextmanager
    async def context(where):
        if where == "beginning":
            raise SandboxUnavailable("no such program")
        yield
        raise OSError("too late")

    with pytest.raises(SandboxUnavailable, match="no such program"), Held(loop, context("beginning")):
        raise AssertionError("it was opened")
    with pytest.raises(OSError, match="too late"), Held(loop, context("end")):
        pass


class Talking:
    """A conversation that yields events, and waits for ever if it is to."""

    def __init__(self, *events, waits=False, error=None):
        self._events, self._waits, self._error = events, waits, error
        self._stopped = None
        self.thread = None

    async def send(self, text):
        self.thread = threading.current_thread()
        self._stopped = asyncio.Event()
        for event in self._events:
            yield event
        if self._error is not None:
            raise self._error
        if self._waits:
            await self._stopped.wait()
        yield Done(reason="interrupted" if self._waits else "finished", text=text)

    async def interrupt(self):
        self._stopped.set()


CALL = CallEnded(agent_id="main", call_id="1", name="shell", text="done")
SAID = Said(agent_id="main", text="Hello.")


def events_of(turn):
    return [event for event in turn if event is not None]


async def keep_nothing():
    """Keep nothing."""


def test_events_come_in_order_and_the_end_last(loop):
    talking = Talking(CALL, SAID)
    turn = Turn(loop, talking, "hi", keep=keep_nothing)
    assert events_of(turn) == [CALL, SAID, Done(reason="finished", text="hi")]
    assert talking.thread is not threading.current_thread()


def test_an_interrupted_turn_still_tells_how_it_ended(loop):
    turn = Turn(loop, Talking(SAID, waits=True), "hi", keep=keep_nothing)
    events = iter(turn)
    assert next(events) == SAID
    assert next(events) is None, "nothing happens, and the caller may show that"
    turn.interrupt()
    assert events_of(turn)[-1].reason == "interrupted"


def test_an_interruption_before_the_agent_has_begun_is_not_lost(loop):
    class Slow(Talking):
        async def send(self, text):
            await asyncio.sleep(0.1)
            async for event in super().send(text):
                yield event

        async def interrupt(self):
            if self._stopped is not None:
                self._stopped.set()

    turn = Turn(loop, Slow(SAID, waits=True), "hi", keep=keep_nothing)
    turn.interrupt()
    assert events_of(turn) == [SAID, Done(reason="interrupted", text="hi")]


def test_it_is_kept_after_each_call_and_before_the_person_may_speak_again(loop):
    kept = []

    async def keep():
        kept.append(len(kept))

    assert events_of(Turn(loop, Talking(CALL, SAID, CALL), "hi", keep=keep))[-1].reason == "finished"
    assert kept == [0, 1, 2]


def test_what_cannot_be_kept_is_said(loop):
    async def keep():
        raise OSError("the disk is full")

    events = events_of(Turn(loop, Talking(SAID), "hi", keep=keep))
    assert events[1] == Notice(text="The conversation could not be saved: the disk is full")
    assert events[-1].reason == "finished"


def test_a_conversation_that_raises_is_answered_for(loop):
    events = events_of(Turn(loop, Talking(SAID, error=KeyError("x")), "hi", keep=keep_nothing))
    assert events[-1] == Done(reason="failed", text="KeyError: 'x'")
