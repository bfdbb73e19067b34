"""What goes through the door: bytes, ends, limits, changes of policy; and peers that mean no good."""

import asyncio
import sys

import pytest

from tumbler.contracts.sandbox import NetworkPolicy

MEBIBYTE = 1 << 20
NAME = "allowed.test"
HOLD = """
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), 9)
connection.sendall(b"ECHO hello\\n")
print(connection.recv(99), flush=True)
try:
    connection.settimeout(15)
    print(connection.recv(99))
except OSError as error:
    print(type(error).__name__)
"""


@pytest.fixture
async def serve():
    """Return a function that serves connections on loopback, and gives the port."""
    servers = []
    tasks = set()

    async def make(serve_one):
        async def guarded(reader, writer):
            tasks.add(asyncio.current_task())
            try:
                await serve_one(reader, writer)
            except ConnectionError:
                pass
            finally:
                writer.transport.abort()

        server = await asyncio.start_server(guarded, "127.0.0.1", 0)
        servers.append(server)
        return server.sockets[0].getsockname()[1]

    yield make
    for server in servers:
        server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def line(process):
    async with asyncio.timeout(20):
        return (await process.stdout.readline()).decode().strip()


async def ended(process):
    async with asyncio.timeout(20):
        said, _ = await process.communicate()
    return said.decode().strip()


def allow(port):
    return NetworkPolicy(mode="allowlist", hosts=(f"{NAME}:{port}",))


async def test_a_half_closed_connection_still_answers(lab, serve):
    async def sum_up(reader, writer):
        heard = await reader.read()
        writer.write(b"%d " % len(heard) + b"x" * (3 * MEBIBYTE))
        writer.write_eof()
        await writer.drain()
        await asyncio.sleep(0)
        while await reader.read(1):
            pass

    port = await serve(sum_up)
    box = await lab(allow(port))
    _, said = await box.inside.python(
        """
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), 9)
connection.sendall(b"y" * (2 << 20))
connection.shutdown(socket.SHUT_WR)
heard = bytearray()
while data := connection.recv(1 << 16):
    heard += data
print(heard.split()[0].decode(), len(heard.split()[1]))
""",
        NAME,
        port,
    )
    assert said == f"{2 * MEBIBYTE} {3 * MEBIBYTE}\n"
    record = await box.recorded(lambda record: record.received > 0)
    assert (record.sent, record.received) == (2 * MEBIBYTE, 3 * MEBIBYTE + len(f"{2 * MEBIBYTE} "))


async def test_all_bytes_arrive_both_ways_unchanged(lab, serve):
    async def echo(reader, writer):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
        await writer.drain()

    port = await serve(echo)
    box = await lab(allow(port))
    _, said = await box.inside.python(
        """
import hashlib, random, socket, sys, threading
data = random.Random(1).randbytes(16 << 20)
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), 9)
def send():
    connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)
threading.Thread(target=send).start()
heard = hashlib.sha256()
while part := connection.recv(1 << 16):
    heard.update(part)
print(heard.digest() == hashlib.sha256(data).digest())
""",
        NAME,
        port,
    )
    assert said == "True\n"


async def test_a_client_that_does_not_read_holds_the_server_back(lab, serve):
    sent = 0

    async def flood(reader, writer):
        nonlocal sent
        while sent < 512 * MEBIBYTE:
            writer.write(b"z" * MEBIBYTE)
            await writer.drain()
            sent += MEBIBYTE

    port = await serve(flood)
    box = await lab(allow(port))
    client = await box.inside.start(
        sys.executable,
        "-c",
        f"import socket; c = socket.create_connection(('{NAME}', {port})); print('in', flush=True); input()",
    )
    assert await line(client) == "in"
    seen = -1
    while seen != sent or sent == 0:
        seen = sent
        await asyncio.sleep(0.5)
    assert sent < 64 * MEBIBYTE
    client.stdin.write(b"\n")
    await ended(client)


async def test_a_client_that_is_killed_takes_its_connection_along(lab, origin):
    box = await lab()
    client = await box.inside.start(sys.executable, "-c", HOLD, NAME, str(origin.port))
    assert "hello" in await line(client)
    assert box.gateway.connections == 1
    client.kill()
    await client.wait()
    async with asyncio.timeout(20):
        while box.gateway.connections or origin.open:
            await asyncio.sleep(0.01)
    assert (await box.recorded(lambda record: record.sent > 0)).sent == len("ECHO hello\n")


async def test_two_hundred_connections_work_at_once(lab, origin):
    box = await lab()
    code, said = await box.inside.python(
        """
import socket, sys
held = [socket.create_connection((sys.argv[1], int(sys.argv[2])), 15) for _ in range(200)]
for number, connection in enumerate(held):
    connection.sendall(b"ECHO %d\\n" % number)
print(sum(connection.recv(99) == b"ECHO %d\\n" % number for number, connection in enumerate(held)))
""",
        NAME,
        origin.port,
    )
    assert (code, said) == (0, "200\n")
    assert origin.most_open == 200


async def test_connections_past_the_limit_are_refused_and_logged(lab, origin):
    box = await lab(connections=3)
    _, said = await box.inside.python(
        """
import socket, sys
held = []
for _ in range(5):
    try:
        connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), 9)
        connection.sendall(b"ECHO\\n")
        held.append((connection, connection.recv(9)))
    except OSError as error:
        print(type(error).__name__)
print(len(held))
""",
        NAME,
        origin.port,
    )
    assert said.split() == ["ConnectionResetError", "ConnectionResetError", "3"]
    refused = [record for record in box.records if "more than 3 connections" in record.reason]
    assert len(refused) == 2
    assert not any(record.allowed for record in refused)


async def test_a_narrower_policy_cuts_what_it_forbids(lab, origin):
    box = await lab()
    client = await box.inside.start(sys.executable, "-c", HOLD, NAME, str(origin.port))
    assert "hello" in await line(client)
    await box.gateway.set_policy(NetworkPolicy())
    assert await ended(client) == "ConnectionResetError"
    assert "cut by a change" in (await box.recorded(lambda record: not record.allowed)).reason
    code, _ = await box.inside.run("curl", "-sS", "-m", "9", f"http://{NAME}:{origin.port}/")
    assert code != 0
    assert origin.visits == 1


async def test_a_new_policy_keeps_the_connections_that_it_allows(lab, origin):
    box = await lab()
    client = await box.inside.start(sys.executable, "-c", HOLD, NAME, str(origin.port))
    assert "hello" in await line(client)
    await box.gateway.set_policy(NetworkPolicy(mode="allowlist", hosts=(NAME, "more.test")))
    for writer in tuple(origin.writers):
        writer.write(b"still here")
        writer.close()
    assert "still here" in await ended(client)


async def test_a_wider_policy_holds_at_once(lab, origin):
    box = await lab(NetworkPolicy())
    await box.gateway.set_policy(NetworkPolicy(mode="allowlist", hosts=(NAME,)))
    code, said = await box.inside.run("curl", "-sS", "-m", "9", f"http://{NAME}:{origin.port}/")
    assert (code, said) == (0, "reached\n")


async def test_a_wrong_policy_changes_nothing(lab, origin):
    box = await lab()
    with pytest.raises(ValueError, match="no port"):
        await box.gateway.set_policy(NetworkPolicy(mode="allowlist", hosts=("a.test:http",)))
    code, _ = await box.inside.run("curl", "-sS", "-m", "9", f"http://{NAME}:{origin.port}/")
    assert code == 0


async def test_many_changes_at_once_leave_the_last_one_in_force(lab, origin):
    box = await lab()
    policies = [NetworkPolicy(mode="allowlist", hosts=(f"{NAME}:{port}",)) for port in (*range(1, 12), origin.port)]
    await asyncio.gather(*(box.gateway.set_policy(policy) for policy in policies))
    code, said = await box.inside.run("curl", "-sS", "-m", "9", f"http://{NAME}:{origin.port}/")
    assert (code, said) == (0, "reached\n")


async def test_a_host_that_is_down_is_logged_as_allowed_and_not_reached(lab, serve):
    port = await serve(lambda reader, writer: asyncio.sleep(0))
    box = await lab(NetworkPolicy(mode="allowlist", hosts=(NAME,)))
    code, _ = await box.inside.run("curl", "-sS", "-m", "9", f"http://{NAME}:1/")
    assert code != 0
    record = await box.recorded(lambda record: record.port == 1)
    assert record.allowed
    assert "not reached" in record.reason
    assert port


async def test_the_end_of_the_gateway_is_the_end_of_the_traffic(lab, origin):
    box = await lab()
    client = await box.inside.start(sys.executable, "-c", HOLD, NAME, str(origin.port))
    assert "hello" in await line(client)
    await box.gateway.close()
    await box.gateway.close()
    assert await ended(client) == "ConnectionResetError"
    code, _ = await box.inside.run("curl", "-sS", "-m", "4", "http://198.18.252.97/")
    assert code != 0
    assert box.gateway.connections == 0


async def test_a_second_gateway_takes_over_a_namespace(lab, origin):
    first = await lab()
    await first.gateway.close()
    second = await lab()
    code, said = await second.inside.run("curl", "-sS", "-m", "9", f"http://{NAME}:{origin.port}/")
    assert (code, said) == (0, "reached\n")


async def test_garbage_and_floods_do_not_stop_the_name_service(lab):
    box = await lab()
    code, said = await box.inside.python(
        """
import os, random, socket, struct
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
noise = random.Random(2)
for size in (0, 1, 11, 12, 13, 40, 512, 4000, 9000):
    for _ in range(20):
        try:
            datagrams.sendto(noise.randbytes(size), ("8.8.8.8", 53))
        except OSError:  # more than the rules let through
            pass
for lie in (b"", b"\\0", b"\\xff\\xff", b"\\0\\1x", struct.pack("!H", 12) + b"\\0" * 12):
    stream = socket.create_connection(("8.8.8.8", 53), 9)
    stream.sendall(lie)
    stream.close()
print("done")
"""
    )
    assert (code, said) == (0, "done\n")
    async with asyncio.timeout(20):
        while True:
            await asyncio.sleep(0.2)
            code, said = await box.inside.run("busybox", "nslookup", "-type=a", NAME, "8.8.8.8")
            if code == 0:
                break
    assert "198.1" in said
    assert any("malformed" in record.reason for record in box.records)


async def test_connections_that_say_nothing_do_not_hinder_others(lab, origin):
    box = await lab(connections=100)
    idle = await box.inside.start(
        sys.executable,
        "-c",
        f"import socket; held = [socket.create_connection(('{NAME}', {origin.port})) for _ in range(50)]; "
        "held += [socket.create_connection(('8.8.8.8', 53)) for _ in range(10)]; print('held', flush=True); input()",
    )
    assert await line(idle) == "held"
    code, said = await box.inside.run("curl", "-sS", "-m", "9", f"http://{NAME}:{origin.port}/")
    assert (code, said) == (0, "reached\n")
    idle.stdin.write(b"\n")
    await ended(idle)
