"""A sandbox without a network reaches one address through the relay: all bytes, at once, and nothing else."""

import ast
import asyncio
import hashlib
import socket
import sys
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.agents.process.serving import Missing, client, echo, relay_by, server

from tumbler.errors import CapabilityError, ContractError, SandboxError
from tumbler_agents.process.relay import inside
from tumbler_agents.process.relay.inside import DATA, GRANT, HEAD, OPEN, PIECE, WINDOW, Connection, Frames
from tumbler_agents.process.relay.opening import open_relay

MIB = 1 << 20


@pytest.fixture(params=["python", "node"])
def interpreter(request):
    return request.param


async def test_ten_mebibytes_go_there_and_back_unchanged(sandbox, interpreter):
    async with server(echo) as endpoint, relay_by(interpreter, sandbox, endpoint) as opened:
        program = """
body = bytes(range(256)) * (10 << 12)
connection = socket.create_connection(("127.0.0.1", port))
threading.Thread(target=lambda: (connection.sendall(body), connection.shutdown(socket.SHUT_WR))).start()
seen = hashlib.sha256()
while piece := connection.recv(1 << 16):
    seen.update(piece)
print(seen.hexdigest())
"""
        assert await client(sandbox, opened, program) == hashlib.sha256(bytes(range(256)) * (10 << 12)).hexdigest()


async def test_what_looks_like_a_control_marker_is_just_bytes(sandbox, interpreter):
    async with server(echo) as endpoint, relay_by(interpreter, sandbox, endpoint) as opened:
        program = r"""
body = b"SESSION_END\0\r\n\x02\0\0\0\x01\0\0\0\0EOF\n" * 3 + bytes([3, 0, 0, 0, 1, 0, 0, 0, 0])
connection = socket.create_connection(("127.0.0.1", port))
connection.sendall(body)
connection.shutdown(socket.SHUT_WR)
seen = b""
while piece := connection.recv(1 << 16):
    seen += piece
print(seen == body)
"""
        assert await client(sandbox, opened, program) == "True"


async def test_an_answer_can_follow_the_end_of_the_request(sandbox, interpreter):
    async def count(reader, writer):
        writer.write(str(len(await reader.read())).encode())
        writer.write_eof()

    async with server(count) as endpoint, relay_by(interpreter, sandbox, endpoint) as opened:
        program = """
connection = socket.create_connection(("127.0.0.1", port))
connection.sendall(b"x" * 12345)
connection.shutdown(socket.SHUT_WR)
print(connection.makefile().read())
"""
        assert await client(sandbox, opened, program) == "12345"


async def test_events_arrive_before_the_next_one_is_sent(sandbox, interpreter):
    async def events(reader, writer):
        # Each event waits for the client to have seen the one before.
        for number in range(5):
            writer.write(f"data: {number}\n\n".encode())
            assert await reader.readexactly(1) == b"."

    async with server(events) as endpoint, relay_by(interpreter, sandbox, endpoint) as opened:
        program = """
connection = socket.create_connection(("127.0.0.1", port))
lines = connection.makefile("rb")
for _ in range(5):
    print(lines.readline().decode().strip(), lines.readline() == b"\\n")
    connection.sendall(b".")
"""
        seen = await client(sandbox, opened, program)
        assert seen.splitlines() == [f"data: {number} True" for number in range(5)]


async def test_many_connections_run_side_by_side_and_more_than_there_is_room_for_wait(sandbox, interpreter):
    async with server(echo) as endpoint, relay_by(interpreter, sandbox, endpoint) as opened:
        program = """
def talk(number):
    body = bytes([number % 256]) * 20000
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(body)
        connection.shutdown(socket.SHUT_WR)
        seen = b""
        while piece := connection.recv(1 << 16):
            seen += piece
    good.append(seen == body)

good = []
threads = [threading.Thread(target=talk, args=(number,)) for number in range(200)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len(good), all(good))
"""
        assert await client(sandbox, opened, program) == "200 True"
        assert opened.relay.accepted == 200


async def test_a_client_that_reads_nothing_holds_up_its_server_and_nobody_else(sandbox, interpreter):
    sent = 0

    async def flood_or_echo(reader, writer):
        nonlocal sent
        if await reader.readexactly(1) == b"e":
            await echo(reader, writer)
            return
        while True:
            writer.write(bytes(1 << 16))
            await writer.drain()
            sent += 1 << 16

    async with server(flood_or_echo) as endpoint, relay_by(interpreter, sandbox, endpoint) as opened:
        program = """
lazy = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
[each.sendall(b"f") for each in lazy]
for _ in range(200):
    with socket.create_connection(("127.0.0.1", port)) as other:
        other.sendall(b"e" + b"x" * 1000)
        other.shutdown(socket.SHUT_WR)
        assert len(other.makefile("rb").read()) == 1000
print("served")
"""
        assert await client(sandbox, opened, program) == "served"
    # The sockets' own buffers hold some; without a bound there would be gigabytes by now.
    assert 0 < sent < 3 * 16 * MIB


async def test_a_client_that_goes_away_is_noticed_outside(sandbox, interpreter):
    gone = asyncio.Event()

    async def hang(reader, writer):
        assert await reader.read() == b"hello"
        gone.set()

    async with server(hang) as endpoint, relay_by(interpreter, sandbox, endpoint) as opened:
        await client(sandbox, opened, 'socket.create_connection(("127.0.0.1", port)).sendall(b"hello")')
        async with asyncio.timeout(30):
            await gone.wait()


async def test_a_server_that_breaks_off_is_noticed_inside(sandbox, interpreter):
    async def break_off(reader, writer):
        await reader.readexactly(1)
        writer.transport.abort()

    async with server(break_off) as endpoint, relay_by(interpreter, sandbox, endpoint) as opened:
        program = """
connection = socket.create_connection(("127.0.0.1", port))
connection.settimeout(30)
connection.sendall(b"x")
try:
    print(connection.recv(10))
except ConnectionError:
    print("broken")
"""
        assert await client(sandbox, opened, program) in ("broken", "b''")


async def test_where_nobody_listens_the_client_is_told_and_the_relay_goes_on(sandbox, interpreter):
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        port = listening.getsockname()[1]
    async with server(echo) as endpoint:
        nobody = replace(endpoint, url=f"http://127.0.0.1:{port}")
        async with relay_by(interpreter, sandbox, nobody) as opened:
            program = """
for _ in range(3):
    connection = socket.create_connection(("127.0.0.1", port))
    connection.settimeout(30)
    try:
        print(connection.recv(10))
    except ConnectionError:
        print("broken")
"""
            assert set((await client(sandbox, opened, program)).splitlines()) <= {"broken", "b''"}
            assert opened.relay.failure == ""


async def test_nothing_else_of_this_machine_is_reached(sandbox):
    async with server(echo) as other, server(echo) as endpoint, relay_by("python", sandbox, endpoint) as opened:
        program = f"""
for address in [("127.0.0.1", {other.url.rpartition(":")[2]}), ("127.0.0.1", {endpoint.url.rpartition(":")[2]})]:
    try:
        socket.create_connection(address, timeout=5)
        print("reached")
    except OSError as error:
        print(type(error).__name__)
"""
        assert set((await client(sandbox, opened, program)).split()) == {"ConnectionRefusedError"}


async def test_nothing_is_left_running(sandbox, interpreter):
    async with server(echo) as endpoint, relay_by(interpreter, sandbox, endpoint) as opened:
        await client(sandbox, opened, 'socket.create_connection(("127.0.0.1", port))')
    assert [info.exit is not None for info in await sandbox.processes()] == [True]
    assert opened.relay.failure == ""


async def test_a_relay_that_dies_says_so_and_its_clients_are_cut_off(sandbox, interpreter):
    async def hang(reader, writer):
        await reader.read()

    async with server(hang) as endpoint, relay_by(interpreter, sandbox, endpoint) as opened:
        waiting = asyncio.create_task(
            client(sandbox, opened, 'print(socket.create_connection(("127.0.0.1", port)).recv(1))')
        )
        while opened.relay.accepted == 0:
            await asyncio.sleep(0.01)
        (info,) = [each for each in await sandbox.processes() if each.tag == "relay"]
        await (await sandbox.process(info.exec_id)).kill()
        async with asyncio.timeout(30):
            await opened.relay.ended()
        assert "exited with" in opened.relay.failure
        await asyncio.gather(waiting, return_exceptions=True)


async def test_a_deleted_sandbox_ends_its_relay(on, sandbox):
    async with server(echo) as endpoint, open_relay(sandbox, endpoint, folder="/tmp/relay") as opened:
        await sandbox.delete()
        async with asyncio.timeout(30):
            await opened.relay.ended()
        assert opened.relay.failure


async def test_without_python_and_node_it_says_what_is_missing(sandbox):
    bare = Missing(sandbox, "python", "node")
    with pytest.raises(CapabilityError, match=r"Python of 3\.8 or later, or Node"):
        async with server(echo) as endpoint, open_relay(bare, endpoint, folder="/tmp/relay"):
            pass


async def test_an_address_that_is_none_of_a_gateway_is_refused(sandbox):
    async with server(echo) as endpoint:
        with pytest.raises(ContractError, match="like http://127"):
            async with open_relay(sandbox, replace(endpoint, url="https://example.com/v1"), folder="/tmp/relay"):
                pass


async def test_a_program_that_does_not_come_up_is_reported_with_its_last_words(sandbox):
    class Broken(Missing):
        async def spawn(self, command, **options):
            return await self._sandbox.spawn(["sh", "-c", "echo out of order >&2; exit 3"], **options)

    async with server(echo) as endpoint:
        with pytest.raises(SandboxError, match="exited with 3: out of order"):
            async with open_relay(Broken(sandbox), endpoint, folder="/tmp/relay"):
                pass


async def test_a_program_that_speaks_no_frames_is_ended(sandbox):
    class Babbling(Missing):
        async def spawn(self, command, **options):
            return await self._sandbox.spawn(["sh", "-c", "echo hello hello; cat"], **options)

    async with server(echo) as endpoint:
        with pytest.raises(SandboxError, match="did not start"):
            async with open_relay(Babbling(sandbox), endpoint, folder="/tmp/relay"):
                pass
    assert all(info.exit is not None for info in await sandbox.processes())


@given(
    frames=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2**32 - 1), st.binary(max_size=40)), max_size=8),
    cuts=st.lists(st.integers(0, 400), max_size=6),
)
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(frames, cuts):
    stream = b"".join(HEAD.pack(kind, number, len(payload)) + payload for kind, number, payload in frames)
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    reading = Frames()
    assert [frame for a, b in pairwise(places) for frame in reading.feed(stream[a:b])] == frames


@pytest.mark.parametrize("head", [(6, 1, 0), (DATA, 1, PIECE + 1)])
def test_what_is_no_frame_is_refused(head):
    with pytest.raises(ValueError, match="which no relay sends"):
        list(Frames().feed(HEAD.pack(*head)))


async def test_nobody_can_send_or_grant_more_than_the_window():
    with pytest.raises(ValueError, match="more than it was granted"):
        connection = Connection(1, lambda *_: None)
        for _ in range(WINDOW // PIECE + 1):
            connection.take(DATA, bytes(PIECE))
    with pytest.raises(ValueError, match="more than it has sent"):
        Connection(1, lambda *_: None).take(GRANT, (1).to_bytes(4, "big"))


def test_the_program_needs_an_old_python_and_its_own_library_alone():
    tree = ast.parse(Path(inside.__file__).read_text(), feature_version=(3, 8))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= sys.stdlib_module_names
    assert (OPEN, GRANT) == (1, 5)
