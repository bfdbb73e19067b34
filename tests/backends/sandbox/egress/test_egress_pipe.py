import asyncio
import socket

import pytest

from tumbler_backends.sandbox.egress.pipe import Pipe, PipeEnd


@pytest.fixture
async def ends():
    """Two ends, not joined yet, and what the programs at their far sides hold."""
    loop = asyncio.get_running_loop()
    made, far = [], []
    for _ in range(2):
        near_socket, far_socket = socket.socketpair()
        _, end = await loop.connect_accepted_socket(PipeEnd, near_socket)
        made.append(end)
        far.append(await asyncio.open_unix_connection(sock=far_socket))
    yield made, far
    for end in made:
        end.transport.abort()
    for _, writer in far:
        writer.close()
        await writer.wait_closed()


async def test_nothing_is_lost_that_comes_before_the_joining(ends):
    (inner, outer), (client, server) = ends
    # As older Pythons do, which forget a pause at the very start.
    inner.data_received(b"early ")
    inner.data_received(b"bird ")
    outer.data_received(b"banner ")
    outer.eof_received()
    over = asyncio.Event()
    pipe = Pipe(inner, outer, over.set)
    client[1].write(b"late")
    client[1].write_eof()
    async with asyncio.timeout(20):
        assert await client[0].read() == b"banner "
        assert await server[0].read() == b"early bird late"
        await over.wait()
    assert (pipe.sent, pipe.received) == (len(b"early bird late"), len(b"banner "))


async def test_an_end_that_is_gone_before_the_joining_takes_the_other_along(ends):
    (inner, outer), (_, server) = ends
    inner.transport.abort()
    await asyncio.sleep(0)
    over = asyncio.Event()
    Pipe(inner, outer, over.set)
    assert not over.is_set()
    async with asyncio.timeout(20):
        assert await server[0].read() == b""
        await over.wait()


async def test_a_cut_ends_both_sides_and_is_told_once(ends):
    (inner, outer), (client, server) = ends
    told = []
    pipe = Pipe(inner, outer, lambda: told.append(1))
    pipe.cut()
    pipe.cut()
    async with asyncio.timeout(20):
        assert (await client[0].read(), await server[0].read()) == (b"", b"")
    await asyncio.sleep(0)
    assert told == [1]
