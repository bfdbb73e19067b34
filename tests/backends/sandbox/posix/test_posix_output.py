import asyncio
import contextlib
import os

import pytest

from tumbler.contracts.sandbox_process import ProcessExit
from tumbler_backends.sandbox.posix.input import InputWriter
from tumbler_backends.sandbox.posix.output import OutputRing
from tumbler_backends.sandbox.posix.spawning import SpawnBook, SpawnRecord


async def read(ring, offset=0, limit=100, timeout=0.0):
    return await ring.read(offset=offset, limit=limit, timeout=timeout)


async def test_offsets_stay_those_of_the_whole_stream_when_old_output_is_thrown_away():
    ring = OutputRing(4)
    for piece in (b"01", b"2345", b"6"):
        ring.feed(piece)
    assert (ring.start, ring.total) == (3, 7)
    piece = await read(ring)
    assert (piece.data, piece.offset, piece.end) == (b"3456", 3, False)
    ring.end()
    assert (await read(ring, 5)).data == b"56"
    assert (await read(ring, 7)).end
    assert (await read(ring, 3, limit=2)).end is False


async def test_a_ring_that_keeps_nothing_still_counts():
    ring = OutputRing(0)
    ring.feed(b"123")
    ring.end()
    piece = await read(ring)
    assert (piece.data, piece.offset, piece.end) == (b"", 3, True)


async def test_every_waiting_reader_is_woken():
    ring = OutputRing(100)
    waiting = [asyncio.create_task(read(ring, offset, timeout=60)) for offset in (0, 2, 5)]
    await asyncio.sleep(0)
    ring.feed(b"abc")
    assert [(await task).data for task in waiting[:2]] == [b"abc", b"c"]
    assert not waiting[2].done()
    ring.end()
    assert (await waiting[2]).end


async def test_a_reader_that_is_too_slow_sees_a_gap_and_the_end():
    ring = OutputRing(3)
    following = ring.follow(0)
    ring.feed(b"abc")
    assert await anext(following) == b"abc"
    ring.feed(b"defgh")
    ring.end()
    assert [piece async for piece in following] == [b"fgh"]


async def test_places_that_cannot_be_are_refused():
    for offset, limit in ((-1, 1), (0, 0)):
        with pytest.raises(ValueError, match="offset"):
            await read(OutputRing(1), offset, limit)


def pipe():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    return reader, InputWriter(writer)


async def test_a_writer_waits_for_its_reader_and_keeps_the_order_of_callers():
    reader, writer = pipe()
    tasks = [asyncio.create_task(writer.write(bytes([number]) * 200_000)) for number in range(3)]
    ended = asyncio.create_task(writer.drained())
    await asyncio.sleep(0.01)
    assert not tasks[0].done()
    received = bytearray()
    os.set_blocking(reader, False)
    while len(received) < 600_000:
        with contextlib.suppress(BlockingIOError):
            received += os.read(reader, 1 << 16)
        await asyncio.sleep(0)
    await asyncio.gather(*tasks, ended)
    assert received == b"".join(bytes([number]) * 200_000 for number in range(3))
    writer.close()
    assert os.read(reader, 1) == b""
    os.close(reader)


async def test_who_writes_when_the_input_ends_is_told():
    reader, writer = pipe()
    writing = asyncio.create_task(writer.write(bytes(1 << 20)))
    await asyncio.sleep(0.01)
    writer.close()
    with pytest.raises(BrokenPipeError):
        await writing
    with pytest.raises(BrokenPipeError):
        await writer.write(b"x")
    writer.close()
    os.close(reader)


async def test_a_writer_without_a_reader_is_told():
    reader, writer = pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        await writer.write(b"x")
    writer.close()


class Spawned:
    pid = None

    def __init__(self, name, said=0):
        self.record = SpawnRecord(name, ["true"], max_output=1 << 30)
        self.record.stdout.feed(bytes(said))

    def ended(self):
        self.record.finish(ProcessExit(exit_code=0))
        return self


async def spawn(book, name, *, said=0, ended=True):
    async def start(exec_id):
        return Spawned(exec_id, said).ended() if ended else Spawned(exec_id, said)

    return await book.spawn(name, start)


async def test_ended_processes_are_forgotten_oldest_first_and_running_ones_never():
    book = SpawnBook()
    await spawn(book, "runs", ended=False)
    for number in range(300):
        await spawn(book, str(number))
    names = [info.exec_id for info in book.infos()]
    assert (names[0], names[1], names[-1], len(names)) == ("runs", "44", "299", 257)
    with pytest.raises(ProcessLookupError, match="43"):
        await book.get("43")


async def test_the_kept_output_of_ended_processes_is_bounded():
    book = SpawnBook()
    for number in range(4):
        await spawn(book, str(number), said=30 << 20)
    assert [info.exec_id for info in book.infos()] == ["2", "3"]
    await spawn(book, "large", said=70 << 20)
    assert [info.exec_id for info in book.infos()] == ["large"]


async def test_a_start_that_fails_leaves_its_id_free():
    book = SpawnBook()

    async def fail(name):
        raise OSError(name)

    for _ in range(2):
        with pytest.raises(OSError, match="one"):
            await book.spawn("one", fail)
    assert (await spawn(book, "one")).record.exec_id == "one"


async def test_a_start_goes_on_without_its_caller():
    book, go, starts = SpawnBook(), asyncio.Event(), []

    async def start(name):
        starts.append(name)
        await go.wait()
        return Spawned(name)

    caller = asyncio.create_task(book.spawn("one", start))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    found = asyncio.create_task(book.get("one"))
    go.set()
    assert (await found) is (await book.spawn("one", start))
    assert starts == ["one"]
    assert book.running() == [await found]


async def test_an_end_that_nobody_knows_is_an_error_for_whoever_asks():
    record = SpawnRecord("one", ["true"], max_output=1)
    record.fail(ConnectionError("lost"))
    record.finish(ProcessExit(exit_code=0))
    for asking in (record.wait(1), record.poll()):
        with pytest.raises(ConnectionError):
            await asking
    assert (record.exit, record.ended, record.stdout.ended) == (None, True, True)
