"""Broken wires, killed services and busy ones: what is repeated, what is told, and that nothing is left."""

import asyncio
import signal

import pytest

from tumbler.contracts.sandbox import SandboxSpec
from tumbler.errors import PolicyDenied, SandboxUnavailable, SessionEnded
from tumbler_backends.sandbox.remote.backend import RemoteBackend
from tumbler_backends.sandbox.remote.sandbox import RemoteSandbox
from tumbler_backends.sandbox.remote.settings import RemoteSettings


async def until_read(sandbox, path: str) -> bytes:
    async with asyncio.timeout(30):
        while True:
            try:
                return await sandbox.read(path)
            except FileNotFoundError:
                await asyncio.sleep(0.02)


async def test_nobody_at_the_address_is_unavailable_within_bounds():
    backend = RemoteBackend(RemoteSettings(url="http://127.0.0.1:9", retry_seconds=0.3))
    async with asyncio.timeout(10):
        with pytest.raises(SandboxUnavailable, match="127"):
            await backend.start()
    await backend.close()


async def test_a_start_gives_a_wrong_address_up_sooner_than_other_requests():
    backend = RemoteBackend(RemoteSettings(url="http://127.0.0.1:9", start_seconds=0.1, retry_seconds=1000))
    async with asyncio.timeout(100):
        with pytest.raises(SandboxUnavailable, match="127"):
            await backend.start()
    await backend.close()


async def test_a_service_of_another_kind_is_told_apart():
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nhello")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    backend = RemoteBackend(RemoteSettings(url=url, retry_seconds=0))
    with pytest.raises(SandboxUnavailable, match="is a sandbox service there"):
        await backend.start()
    await backend.close()
    server.close()


async def test_a_service_that_never_answers_is_unavailable_within_bounds():
    over = asyncio.Semaphore(0)

    async def say_nothing(reader, writer):
        await reader.read()
        writer.close()
        over.release()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    backend = RemoteBackend(RemoteSettings(url=url, slack=0.2, retry_seconds=0.2, connect_timeout=0.2))
    async with asyncio.timeout(10):
        with pytest.raises(SandboxUnavailable):
            await backend.start()
    await backend.close()
    await over.acquire()
    server.close()


async def test_a_wrong_token_is_not_tried_again(service):
    backend = RemoteBackend(RemoteSettings(url=service.url, token="another-wrong-token"))
    with pytest.raises(PolicyDenied, match="token"):
        await backend.start()
    await backend.close()


async def test_a_command_is_run_once_although_the_wire_breaks(wired, wire):
    sandbox = await wired.create(SandboxSpec())
    running = asyncio.ensure_future(sandbox.exec("echo x >>log; until [ -e go ]; do sleep 0.02; done; echo done"))
    await until_read(sandbox, "log")
    wire.cut()
    await sandbox.write("go", b"")
    result = await running
    assert (result.exit_code, result.stdout) == (0, b"done\n")
    assert await sandbox.read("log") == b"x\n"


async def test_a_session_command_is_run_once_although_the_wire_breaks(wired, wire):
    sandbox = await wired.create(SandboxSpec())
    session = await sandbox.session()
    running = asyncio.ensure_future(session.run("echo x >>log; until [ -e go ]; do sleep 0.02; done; echo done"))
    await until_read(sandbox, "log")
    wire.cut()
    await sandbox.write("go", b"")
    assert (await running).stdout == b"done\n"
    assert (await session.run("cat log")).stdout == b"x\n"


async def test_a_wire_that_is_away_for_a_while_is_waited_for(wired, wire):
    sandbox = await wired.create(SandboxSpec())
    await wire.close()
    asking = asyncio.ensure_future(sandbox.exec("echo on"))
    await asyncio.sleep(0.3)
    assert not asking.done()
    await wire.open()
    assert (await asking).stdout == b"on\n"


async def test_what_must_not_happen_twice_is_not_repeated(wired, wire):
    sandbox = await wired.create(SandboxSpec())
    process = await sandbox.spawn("wc -c", stdin=True)
    await process.write_stdin(b"12345")
    sending = asyncio.ensure_future(process.write_stdin(bytes(8 << 20)))
    await asyncio.sleep(0.05)
    wire.cut()
    if (await asyncio.gather(sending, return_exceptions=True))[0] is None:
        return  # it was through already
    with pytest.raises(SandboxUnavailable):
        await sending
    await process.kill()


async def test_output_is_followed_across_breaks_without_loss(wired, wire):
    sandbox = await wired.create(SandboxSpec())
    process = await sandbox.spawn("for i in $(seq 200); do echo $i; sleep 0.01; done")
    seen = b""
    async for piece in process.follow():
        seen += piece
        if wire.connections < 6:
            wire.cut()
    assert seen.split() == [b"%d" % number for number in range(1, 201)]
    assert (await process.wait(30)).exit_code == 0


async def test_a_download_that_breaks_is_no_short_file(wired, wire):
    sandbox = await wired.create(SandboxSpec())
    await sandbox.exec("head -c 60000000 /dev/zero >big")
    count = 0
    with pytest.raises(SandboxUnavailable):
        async for piece in sandbox.read_stream("big"):
            count += len(piece)
            wire.cut()
    assert count < 60_000_000


async def test_an_upload_that_breaks_leaves_no_file(wired, wire):
    sandbox = await wired.create(SandboxSpec())

    async def pieces():
        for number in range(64):
            if number == 8:
                wire.cut()
            yield bytes(1 << 20)
            await asyncio.sleep(0)

    with pytest.raises(SandboxUnavailable):
        await sandbox.write_stream("file", pieces())
    assert (await sandbox.exec("ls -A")).stdout == b""


async def test_a_killed_service_comes_back_with_its_sandboxes(service, remote):
    sandbox = await remote.create(SandboxSpec(labels={"of": "test"}, env={"A": "kept"}))
    session = await sandbox.session()
    await sandbox.write("file", b"kept")
    running = asyncio.ensure_future(sandbox.exec("echo x >>log; sleep 300", timeout=300))
    await until_read(sandbox, "log")
    await service.end(signal.SIGKILL)
    waiting = asyncio.ensure_future(sandbox.read("file"))
    await asyncio.sleep(0.3)
    await service.start()
    assert await waiting == b"kept"
    with pytest.raises(SandboxUnavailable, match="restarted"):
        await running
    with pytest.raises(SessionEnded):
        await session.run("true")
    assert await sandbox.read("log") == b"x\n"
    assert (await sandbox.exec("echo $A; cat file")).stdout == b"kept\nkept"
    assert [info.id for info in await remote.list(labels={"of": "test"})] == [sandbox.id]
    assert (await remote.attach(sandbox.id)).spec.env == {"A": "kept"}
    await sandbox.delete()
    assert await remote.list() == []


async def test_a_service_that_stays_away_is_unavailable_and_the_sandbox_is_not_called_dead(service):
    backend = RemoteBackend(RemoteSettings(url=service.url, token="a-token-of-the-tests", retry_seconds=0.3))
    await backend.start()
    sandbox = await backend.create(SandboxSpec())
    await service.end(signal.SIGKILL)
    for call in (sandbox.exec("true"), sandbox.read("file"), sandbox.info(), backend.create(SandboxSpec())):
        with pytest.raises(SandboxUnavailable):
            await call
    assert not await sandbox.alive()
    await service.start()
    assert await sandbox.alive()
    await backend.close()


async def test_a_burst_of_creations_beyond_the_queue_is_served_in_full(remote):
    made = await asyncio.gather(*(remote.create(SandboxSpec()) for _ in range(24)))
    assert len({sandbox.id for sandbox in made}) == 24
    assert remote.measure().created == 24


async def test_a_creation_that_is_cancelled_leaves_no_sandbox(service, remote):
    tasks = [asyncio.ensure_future(remote.create(SandboxSpec())) for _ in range(8)]
    await asyncio.sleep(0.02)
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in outcomes:  # a creation may be faster than its cancellation
        if isinstance(outcome, RemoteSandbox):
            await outcome.delete()
    assert any(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    async with asyncio.timeout(60):
        while remote.orphans or await remote.list():
            await asyncio.sleep(0.05)


async def test_closing_deletes_what_this_client_made_and_nothing_else(service, remote):
    other = RemoteBackend(RemoteSettings(url=service.url, token="a-token-of-the-tests"))
    await other.start()
    mine, theirs = await remote.create(SandboxSpec()), await other.create(SandboxSpec())
    await other.close()
    assert [info.id for info in await remote.list()] == [mine.id]
    assert theirs.id != mine.id
