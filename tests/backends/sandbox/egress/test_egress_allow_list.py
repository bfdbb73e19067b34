"""The bar: an allowed host on loopback is reached, all else is refused and logged, whatever the client."""

import struct

import pytest

from tumbler.contracts.sandbox import NetworkPolicy

DNS = """
import socket, struct, sys
server, name, kind = sys.argv[1], sys.argv[2], int(sys.argv[3])
question = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\\0"
packet = struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0) + question + struct.pack("!HH", kind, 1)
if len(sys.argv) > 4:
    connection = socket.create_connection((server, 53), 5)
    connection.sendall(struct.pack("!H", len(packet)) + packet)
    answer = connection.recv(999)[2:]
else:
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    query = socket.socket(family, socket.SOCK_DGRAM)
    query.settimeout(5)
    query.sendto(packet, (server, 53))
    answer, sender = query.recvfrom(999)
    assert sender[0] == server, sender
code, answers = answer[3] & 15, struct.unpack("!H", answer[6:8])[0]
print(code, answers, socket.inet_ntoa(answer[-4:]) if answers else "-")
"""
CONNECT = """
import socket, sys
try:
    connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
    connection.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
    print(connection.recv(999))
except OSError as error:
    print(type(error).__name__)
"""
AAAA, TXT, ANY = 28, 16, 255


async def test_curl_reaches_the_allowed_host(lab, origin):
    box = await lab()
    code, said = await box.inside.run("curl", "-sS", "-m", "9", f"http://allowed.test:{origin.port}/")
    assert (code, said, origin.visits) == (0, "reached\n", 1)
    record = await box.recorded(lambda record: record.protocol == "tcp" and record.received > 0)
    assert (record.host, record.port, record.allowed) == ("allowed.test", origin.port, True)
    assert (record.sandbox, record.trajectory) == ("box-1", "trajectory-7")
    assert record.address.startswith("198.1") and "127.0.0.1" in record.reason
    assert record.sent > 20 and record.received == len("HTTP/1.0 200 OK\r\n\r\nreached\n")


async def test_python_reaches_the_allowed_host(lab, origin):
    box = await lab()
    _, said = await box.inside.python(CONNECT, "allowed.test", origin.port)
    assert "reached" in said


async def test_static_programs_reach_the_allowed_host(lab, origin, static_client):
    box = await lab()
    _, said = await box.inside.run("busybox", "wget", "-q", "-O", "-", f"http://allowed.test:{origin.port}/")
    assert said == "reached\n"
    _, found = await box.inside.python(DNS, "198.18.0.1", "allowed.test", 1)
    _, said = await box.inside.run(static_client, found.split()[2], str(origin.port))
    assert "reached" in said


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("1.1.1.1", "no range rule allows"),
        ("169.254.169.254", "metadata"),
        ("100.100.100.200", "metadata"),
        ("168.63.129.16", "metadata"),
        ("10.0.0.1", "private"),
        ("192.168.1.1", "private"),
        ("2606:4700::1111", "no range rule allows"),
        ("fd00:ec2::254", "metadata"),
        ("64:ff9b::a9fe:a9fe", "stands for an IPv4"),
        ("224.0.0.1", "multicast"),
    ],
)
async def test_a_bare_address_is_refused_at_once_and_logged(lab, origin, host, why):
    box = await lab()
    _, said = await box.inside.python(CONNECT, host, origin.port)
    assert said.strip() in {"ConnectionRefusedError", "OSError"}
    if host == "224.0.0.1":  # the kernel connects no TCP to a group, so nothing was aimed at it
        assert said.strip() == "OSError"
        return
    record = await box.recorded(lambda record: record.address == host)
    assert (record.protocol, record.port, record.allowed) == ("tcp", origin.port, False)
    assert why in record.reason
    assert origin.visits == 0


@pytest.mark.parametrize(
    "command",
    [
        ("curl", "-sS", "-m", "9", "http://1.1.1.1:8000/"),
        ("busybox", "wget", "-q", "-O", "-", "http://1.1.1.1:8000/"),
        ("busybox", "nc", "-w", "5", "1.1.1.1", "8000"),
        ("static", "1.1.1.1", "8000"),
    ],
)
async def test_every_client_is_refused_elsewhere(lab, static_client, command):
    box = await lab()
    code, _ = await box.inside.run(*(static_client if word == "static" else word for word in command))
    assert code != 0
    assert not (await box.recorded(lambda record: (record.address, record.port) == ("1.1.1.1", 8000))).allowed


@pytest.mark.parametrize(
    "command",
    [
        ("curl", "-sS", "-m", "9", "http://evil.test/"),
        ("busybox", "wget", "-q", "-O", "-", "http://evil.test/"),
        ("busybox", "nc", "-w", "5", "evil.test", "80"),
    ],
)
async def test_every_client_is_refused_other_names(lab, command):
    box = await lab()
    code, _ = await box.inside.run(*command)
    assert code != 0
    record = await box.recorded(lambda record: record.host == "evil.test")
    assert (record.protocol, record.allowed, record.reason) == ("dns", False, "no host rule allows evil.test")


async def test_another_port_of_an_allowed_host_is_refused(lab, origin):
    box = await lab()
    code, said = await box.inside.run("curl", "-sS", "-m", "9", "http://allowed.test:81/")
    assert code == 7, said
    record = await box.recorded(lambda record: record.port == 81)
    assert (record.host, record.allowed) == ("allowed.test", False)
    assert "other ports only" in record.reason


async def test_a_port_that_another_host_may_use_is_refused(lab, origin):
    policy = NetworkPolicy(mode="allowlist", hosts=("allowed.test:9", f"other.test:{origin.port}"))
    box = await lab(policy)
    code, _ = await box.inside.run("curl", "-sS", "-m", "9", f"http://allowed.test:{origin.port}/")
    assert code != 0
    assert origin.visits == 0
    assert not (await box.recorded(lambda record: record.port == origin.port)).allowed


@pytest.mark.parametrize("server", ["8.8.8.8", "127.0.0.1", "198.18.0.1", "2001:4860:4860::8888"])
@pytest.mark.parametrize(("name", "kind", "answer"), [("allowed.test", 1, "0 1"), ("evil.test", 1, "3 0")])
async def test_raw_dns_to_any_server_is_answered_by_the_policy(lab, server, name, kind, answer):
    box = await lab()
    code, said = await box.inside.python(DNS, server, name, kind)
    assert code == 0, said
    assert said.startswith(answer)
    record = await box.recorded(lambda record: record.protocol == "dns")
    assert (record.address, record.port, record.host) == (server, 53, name)
    assert record.allowed == (name == "allowed.test")


@pytest.mark.parametrize(("kind", "answer"), [(AAAA, "0 0"), (TXT, "5 0"), (ANY, "5 0")])
async def test_only_ipv4_addresses_are_answered(lab, kind, answer):
    box = await lab()
    _, said = await box.inside.python(DNS, "8.8.8.8", "allowed.test", kind)
    assert said.startswith(answer)


async def test_dns_over_tcp_is_answered_too(lab):
    box = await lab()
    _, said = await box.inside.python(DNS, "8.8.8.8", "allowed.test", 1, "tcp")
    assert said.startswith("0 1")
    _, said = await box.inside.python(DNS, "8.8.8.8", "evil.test", 1, "tcp")
    assert said.startswith("3 0")
    assert [record.allowed for record in box.records] == [True, False]
    assert {record.address for record in box.records} == {"8.8.8.8"}


async def test_a_name_keeps_its_address(lab):
    box = await lab(NetworkPolicy(mode="allowlist", hosts=("*.allowed.test", "allowed.test")))
    asked = [await box.inside.python(DNS, "8.8.8.8", name, 1) for name in ("allowed.test", "a.allowed.test")]
    again = [await box.inside.python(DNS, "8.8.8.8", name, 1) for name in ("ALLOWED.TEST", "a.allowed.test")]
    assert asked == again
    assert asked[0] != asked[1]


async def test_names_that_carry_data_never_leave_and_are_logged(lab):
    asked: list[str] = []

    async def resolver(name: str) -> list[str]:
        asked.append(name)
        return ["127.0.0.1"]

    box = await lab(resolver=resolver)
    names = [f"{'0123456789abcdef' * 3}{turn:02}.tunnel.test" for turn in range(20)]
    for name in names:
        await box.inside.python(DNS, "8.8.8.8", name, TXT if name.endswith("1.tunnel.test") else 1)
    assert asked == []
    assert [record.host for record in box.records] == names
    assert not any(record.allowed for record in box.records)


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6"])
async def test_udp_never_gets_out_and_is_logged(lab, family):
    box = await lab(NetworkPolicy(mode="public"))
    host = "1.1.1.1" if family == "AF_INET" else "2606:4700::1111"
    code = f"import socket; socket.socket(socket.{family}, socket.SOCK_DGRAM).sendto(b'x', ('{host}', 443))"
    exit_code, said = await box.inside.python(code)
    assert exit_code != 0
    assert "PermissionError" in said
    record = await box.recorded(lambda record: record.address == host)
    assert (record.protocol, record.port, record.allowed) == ("udp", 443, False)


async def test_ping_never_gets_out_and_is_logged(lab):
    box = await lab(NetworkPolicy(mode="public"))
    packet = struct.pack("!BBHHH", 8, 0, 0xF7FF, 0, 0)
    await box.inside.python(
        f"import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).sendto({packet!r}, ('1.1.1.1', 0))"
    )
    record = await box.recorded(lambda record: record.address == "1.1.1.1")
    assert (record.protocol, record.port, record.allowed) == ("other", 0, False)
    assert "protocol 1 " in record.reason


@pytest.mark.parametrize(
    "policy",
    [
        NetworkPolicy(),
        NetworkPolicy(mode="allowlist", hosts=("a.test",)),
        NetworkPolicy(mode="allowlist", cidrs=("0.0.0.0/0", "::/0")),
        NetworkPolicy(mode="public"),
    ],
)
async def test_the_sandboxs_own_loopback_works_untouched(lab, policy):
    box = await lab(policy)
    code, said = await box.inside.python(
        """
import socket
for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "127.9.9.9"), (socket.AF_INET6, "::1")):
    server = socket.create_server((address, 0), family=family)
    client = socket.create_connection(server.getsockname()[:2], 5)
    client.sendall(b"tcp")
    accepted, peer = server.accept()
    assert accepted.recv(9) == b"tcp"
    assert client.getpeername()[:2] == server.getsockname()[:2]
    datagrams = socket.socket(family, socket.SOCK_DGRAM)
    datagrams.bind((address, 0))
    datagrams.sendto(b"udp", datagrams.getsockname())
    assert datagrams.recv(9) == b"udp"
print("untouched")
"""
    )
    assert (code, said) == (0, "untouched\n")
    assert box.records == []


async def test_the_gateways_own_port_leads_nowhere(lab, origin):
    box = await lab(NetworkPolicy(mode="public"))
    _, said = await box.inside.python(
        """
import socket
lines = [line.split() for line in open("/proc/net/tcp").readlines()[1:]]
port = next(int(line[1].split(":")[1], 16) for line in lines if line[3] == "0A")
try:
    print(socket.create_connection(("127.0.0.1", port), 5).recv(9))
except OSError as error:
    print(type(error).__name__)
"""
    )
    assert said == "ConnectionResetError\n"
    assert "gateway's own port" in (await box.recorded(lambda record: record.address == "127.0.0.1")).reason


async def test_a_sandboxed_process_cannot_change_the_rules(lab):
    box = await lab()
    bwrap = ("bwrap", "--unshare-user", "--uid", "1000", "--cap-drop", "ALL", "--ro-bind", "/", "/", "--")
    for command in (
        ("nft", "flush", "ruleset"),
        ("ip", "route", "flush", "table", "all"),
        ("nsenter", "--net=/proc/1/ns/net", "true"),
    ):
        code, said = await box.inside.run(*bwrap, *command)
        assert code != 0, said
    code, _ = await box.inside.run("nft", "list", "table", "inet", "tumbler_egress")
    assert code == 0


async def test_with_no_policy_all_is_refused_and_logged(lab, origin):
    box = await lab(NetworkPolicy())
    for target in ("allowed.test", "1.1.1.1"):
        code, _ = await box.inside.run("curl", "-sS", "-m", "9", f"http://{target}:{origin.port}/")
        assert code != 0
    await box.recorded(lambda record: record.address == "1.1.1.1")
    assert {record.reason for record in box.records} == {"the policy is none"}
    assert origin.visits == 0
