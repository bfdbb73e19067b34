import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tumbler.contracts.sandbox import NetworkPolicy
from tumbler.errors import CapabilityError, SandboxUnavailable
from tumbler_backends.sandbox.egress.egress_log import EgressLog
from tumbler_backends.sandbox.egress.gateway import EgressGateway
from tumbler_backends.sandbox.egress.network_namespace import (
    NamespaceDescriptors,
    enter_words,
    make_namespaces,
    run_in_namespaces,
)

TAKEN = "import socket; s = socket.socket(type=2); s.bind(('', 53)); print('bound', flush=True); input()"
INTERFACES = "import json, socket; print(json.dumps([name for _, name in socket.if_nameindex()]))"


@pytest.fixture
def made():
    descriptors = make_namespaces()
    yield descriptors
    descriptors.close()


def inside(descriptors: NamespaceDescriptors, *words: str) -> str:
    return subprocess.run([*enter_words(descriptors), *words], check=True, capture_output=True, text=True).stdout


def test_a_new_namespace_has_a_working_loopback_and_nothing_else(made):
    assert json.loads(inside(made, sys.executable, "-c", INTERFACES)) == ["lo"]
    bound = "import socket; s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname())"
    inside(made, sys.executable, "-c", bound)


def test_nothing_is_reached_from_a_new_namespace(made):
    code = "import socket; s = socket.socket(); s.settimeout(5); print(s.connect_ex(('192.0.2.1', 80)))"
    assert int(inside(made, sys.executable, "-c", code)) == 101  # the network is unreachable


def test_the_makers_own_namespace_stays_as_it_is(made):
    own = Path("/proc/self/ns/net").readlink()
    assert str(own) != inside(made, "readlink", "/proc/self/ns/net").strip()
    assert Path("/proc/thread-self/ns/net").readlink() == own


def test_a_program_inside_inherits_no_descriptor(made):
    assert "net:[" not in inside(made, "ls", "-l", "/proc/self/fd")


def test_a_program_inside_keeps_its_pid(made):
    with subprocess.Popen([*enter_words(made), "sh", "-c", "echo $$"], stdout=subprocess.PIPE, text=True) as process:
        assert int(process.communicate()[0]) == process.pid


def test_closing_closes_every_descriptor():
    made = make_namespaces(mount=True)
    kept = [descriptor for descriptor in (made.network, made.mount, made.user) if descriptor is not None]
    assert len(kept) == (2 if made.user is None else 3)
    made.close()
    for descriptor in kept:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_mounts_inside_do_not_spread(tmp_path):
    made = make_namespaces(mount=True)
    try:
        inside(made, "mount", "-t", "tmpfs", "none", str(tmp_path))
        inside(made, "touch", str(tmp_path / "inside"))
        assert inside(made, "ls", str(tmp_path)) == "inside\n"
        assert list(tmp_path.iterdir()) == []
    finally:
        made.close()


def test_many_namespaces_stand_side_by_side():
    made = [make_namespaces() for _ in range(50)]
    try:
        assert len({os.fstat(each.network).st_ino for each in made}) == 50
    finally:
        for each in made:
            each.close()


def test_a_socket_made_inside_stays_inside(made):
    if made.user is not None:
        with pytest.raises(CapabilityError, match="enter_words"):
            run_in_namespaces(made, socket.if_nameindex)
        return
    with run_in_namespaces(made, lambda: socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        inside(made, sys.executable, "-c", f"import socket; socket.create_connection(('127.0.0.1', {port}))")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
    with pytest.raises(ZeroDivisionError):
        run_in_namespaces(made, lambda: 1 // 0)


def test_another_users_namespace_cannot_be_entered_by_a_thread():
    descriptor = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    owned = NamespaceDescriptors(network=descriptor, user=os.dup(descriptor))
    try:
        with pytest.raises(CapabilityError, match="another user namespace"):
            run_in_namespaces(owned, socket.if_nameindex)
    finally:
        owned.close()


WITHOUT_ROOT = """
import asyncio, os
from tumbler.contracts.sandbox import NetworkPolicy
from tumbler_backends.sandbox.egress.egress_log import EgressLog
from tumbler_backends.sandbox.egress.gateway import EgressGateway
from tumbler_backends.sandbox.egress.network_namespace import enter_words, make_namespaces

async def answer(reader, writer):
    await reader.read(999)
    writer.write(b"HTTP/1.0 200 OK\\r\\n\\r\\nreached\\n")
    writer.close()

async def curl(made, url):
    words = (*enter_words(made), "bwrap", "--unshare-user", "--ro-bind", "/", "/", "--", "curl", "-sS", "-m", "9", url)
    process = await asyncio.create_subprocess_exec(*words, stdout=-1, stderr=-2)
    return (await process.communicate())[0].decode()

async def main():
    assert os.geteuid() != 0
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    made, log = make_namespaces(), EgressLog()
    assert made.user is not None
    policy = NetworkPolicy(mode="allowlist", hosts=("allowed.test",))
    gateway = EgressGateway(made, policy, log=log, sandbox="box", names={"allowed.test": "127.0.0.1"})
    await gateway.start()
    print(await curl(made, f"http://allowed.test:{port}/"))
    print(await curl(made, "http://1.1.1.1:81/"))
    await gateway.set_policy(NetworkPolicy())
    print(await curl(made, f"http://allowed.test:{port}/"))
    for _ in range(200):
        if any(record.port == 81 for record in log.of("box")):
            break
        await asyncio.sleep(0.05)
    for record in log.of("box"):
        print(record.protocol, record.host, record.port, record.allowed)
    await gateway.close()
    made.close()
    server.close()

asyncio.run(main())
"""


def ordinary_python() -> list[str]:
    """Return the words that start a Python as an ordinary user."""
    # setpriv itself still has root's rights when it starts a program; the `env` that it starts has none.
    words = [] if os.geteuid() else ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", "env"]
    for python in (sys.executable, shutil.which("python3", path="/usr/local/bin:/usr/bin")):
        if python and subprocess.run([*words, python, "-c", ""], capture_output=True).returncode == 0:
            return [*words, python]
    raise AssertionError("an ordinary user can start no Python here: install python3 for all users")


async def test_all_of_it_works_without_root():
    paths = [
        str(Path(module.__file__).parent.parent) for module in map(__import__, ("tumbler", "pluggy")) if module.__file__
    ]
    backends = Path(sys.modules[NamespaceDescriptors.__module__].__file__ or "").parents[3]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, str(backends)]), "PYTHONDONTWRITEBYTECODE": "1"}
    process = await asyncio.create_subprocess_exec(
        *ordinary_python(), "-c", WITHOUT_ROOT, stdout=-1, stderr=-2, env=environment, cwd="/"
    )
    async with asyncio.timeout(60):
        said = (await process.communicate())[0].decode()
    assert process.returncode == 0, said
    assert said.startswith("reached"), said
    assert "tcp None 81 False" in said
    assert "dns allowed.test 53 True" in said
    assert "dns allowed.test 53 False" in said


async def test_a_namespace_with_another_way_out_is_refused(made):
    inside(made, "ip", "link", "add", "way", "type", "veth", "peer", "name", "out")
    inside(made, "ip", "link", "set", "way", "up")
    gateway = EgressGateway(made, NetworkPolicy(), log=EgressLog(), sandbox="box")
    with pytest.raises(CapabilityError, match="the interface way"):
        await gateway.start()


async def test_a_name_server_inside_is_no_reason_to_go_on_without(made):
    pipe = asyncio.subprocess.PIPE
    taken = await asyncio.create_subprocess_exec(
        *enter_words(made), sys.executable, "-c", TAKEN, stdin=pipe, stdout=pipe
    )
    assert taken.stdout is not None
    assert await taken.stdout.readline() == b"bound\n"
    gateway = EgressGateway(made, NetworkPolicy(), log=EgressLog(), sandbox="box")
    with pytest.raises(SandboxUnavailable, match=r"answer DNS over IPv4 .* in use"):
        await gateway.start()
    await taken.communicate(b"\n")


async def test_a_namespace_without_ipv6_gets_it_and_is_guarded(made):
    inside(made, "sh", "-c", "for each in all lo; do echo 1 >/proc/sys/net/ipv6/conf/$each/disable_ipv6; done")
    log = EgressLog()
    gateway = EgressGateway(made, NetworkPolicy(), log=log, sandbox="box")
    await gateway.start()
    code = (
        "import socket; s = socket.socket(socket.AF_INET6); s.settimeout(5); print(s.connect_ex(('2606:4700::1', 80)))"
    )
    assert int(inside(made, sys.executable, "-c", code)) == 111  # refused
    async with asyncio.timeout(20):
        while not log.of("box"):
            await asyncio.sleep(0.01)
    assert log.of("box")[0].address == "2606:4700::1"
    await gateway.close()
