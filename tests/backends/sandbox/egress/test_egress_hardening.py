"""Attacks on the gateway itself, from inside and by bad timing."""

import asyncio
import gc
from pathlib import Path

from tumbler.contracts.sandbox import NetworkPolicy
from tumbler_backends.sandbox.egress.egress_log import EgressLog
from tumbler_backends.sandbox.egress.gateway import EgressGateway

ASK = """
import socket, struct, sys
question = struct.pack("!HHHHHH", 1, 0x100, 1, 0, 0, 0) + b"\\4name\\4test\\0" + struct.pack("!HH", 1, 1)
connection = socket.create_connection(("198.18.0.1", 53), timeout=10)
answers = 0
try:
    for _ in range(1000):
        connection.sendall(struct.pack("!H", len(question)) + question)
        size = connection.recv(2)
        if not size:
            break
        connection.recv(struct.unpack("!H", size)[0])
        answers += 1
except OSError:
    pass
print(answers)
"""


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_gateway_whose_start_is_cancelled_leaves_no_socket(namespaces):
    policy = NetworkPolicy(mode="allowlist", hosts=("a.test",))
    before = descriptors()
    for turns in range(12):
        gateway = EgressGateway(namespaces, policy, log=EgressLog(), sandbox="box-1")
        starting = asyncio.create_task(gateway.start())
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await gateway.close()
    await asyncio.sleep(0.5)  # the program that loads the rules is being reaped
    gc.collect()
    assert descriptors() <= before


async def test_one_connection_cannot_ask_for_names_without_end(lab):
    opened = await lab()
    code, said = await opened.inside.python(ASK)
    assert code == 0, said
    assert 1 <= int(said) <= 10
