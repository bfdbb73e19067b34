"""Calls over one connection: answers, errors, cancellations, and an end that comes too early."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.backends.execution.recipes import Foreign

from tumbler.errors import InferenceError
from tumbler_backends.execution.local.peer import Handler, Peer, PeerGone


@asynccontextmanager
async def connected(*handlers: dict[str, Handler]) -> AsyncIterator[tuple[Peer, Peer]]:
    ends = socket.socketpair()
    peers, serving = [], []
    for end, answers, name in zip(ends, (*handlers, {}, {}), ("left", "right"), strict=False):
        reader, writer = await asyncio.open_unix_connection(sock=end)
        peers.append(Peer(reader, writer, answers, name=name))
        serving.append(asyncio.ensure_future(peers[-1].serve()))
    try:
        yield peers[0], peers[1]
    finally:
        for peer in peers:
            peer.close()
        await asyncio.gather(*serving)


async def double(value: int) -> int:
    await asyncio.sleep(0.001 * (7 - value % 7))
    return 2 * value


async def fail() -> None:
    raise InferenceError("scripted")


async def test_many_calls_go_both_ways_at_once() -> None:
    async with connected({"double": double}, {"double": double}) as (left, right):
        calls = [peer.call("double", index) for index in range(50) for peer in (left, right)]
        assert await asyncio.gather(*calls) == [2 * index for index in range(50) for _ in range(2)]


async def test_a_large_value_arrives_whole() -> None:
    async def echo(value: bytes) -> bytes:
        return value

    async with connected({}, {"echo": echo}) as (left, _):
        value = bytes(range(256)) * 40_000
        assert await left.call("echo", value) == value


async def test_errors_are_raised_at_the_caller_s_end() -> None:
    async def foreign() -> None:
        raise Foreign("one", "two")

    async with connected({}, {"fail": fail, "foreign": foreign, "double": double}) as (left, _):
        with pytest.raises(InferenceError, match="scripted"):
            await left.call("fail")
        with pytest.raises(RuntimeError, match="Foreign: onetwo"):
            await left.call("foreign")
        with pytest.raises(KeyError, match="nobody"):
            await left.call("nobody")
        assert await left.call("double", 4) == 8


async def test_what_cannot_be_sent_is_an_error_at_both_ends() -> None:
    async def unsendable() -> object:
        return lambda: None

    async with connected({}, {"unsendable": unsendable, "double": double}) as (left, _):
        with pytest.raises(Exception, match="pickle"):
            await left.call("unsendable")
        with pytest.raises(Exception, match="pickle"):
            await left.call("double", lambda: None)
        assert await left.call("double", 4) == 8


async def test_a_cancelled_call_waits_for_the_other_end_s_clean_up() -> None:
    told: list[str] = []
    begun = asyncio.Event()

    async def wait() -> None:
        begun.set()
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0.02)
            told.append("cleaned")

    async with connected({}, {"wait": wait}) as (left, _):
        call = asyncio.ensure_future(left.call("wait"))
        await begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert told == ["cleaned"]


async def test_the_end_of_the_connection_fails_calls_and_cancels_what_is_answered() -> None:
    told: list[str] = []
    begun = asyncio.Event()

    async def wait() -> None:
        begun.set()
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            told.append("cancelled")
            raise

    async with connected({}, {"wait": wait}) as (left, right):
        call = asyncio.ensure_future(left.call("wait"))
        await begun.wait()
        right.close()
        with pytest.raises(PeerGone):
            await call
        with pytest.raises(PeerGone):
            await left.call("wait")
        left.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                while not told:
                    await asyncio.sleep(0.01)
    assert told == ["cancelled"]
