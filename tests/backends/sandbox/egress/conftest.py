"""Real namespaces, a real server on this machine's loopback, and clients that run inside."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tumbler.contracts.sandbox import NetworkPolicy
from tumbler.contracts.sandbox_control import EgressRecord
from tumbler_backends.sandbox.egress.egress_log import EgressLog
from tumbler_backends.sandbox.egress.fake_addresses import NAME_SERVER
from tumbler_backends.sandbox.egress.gateway import EgressGateway
from tumbler_backends.sandbox.egress.network_namespace import NamespaceDescriptors, enter_words, make_namespaces

BOUND_S = 20.0


@dataclass
class Inside:
    """Starts programs in the namespace."""

    namespaces: NamespaceDescriptors

    async def start(self, *words: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *enter_words(self.namespaces), *words, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT
        )

    async def run(self, *words: str) -> tuple[int, str]:
        """Return the exit code, and what was said on both outputs."""
        process = await self.start(*words)
        try:
            async with asyncio.timeout(BOUND_S):
                said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return process.returncode, said.decode(errors="replace")

    async def python(self, code: str, *arguments: object) -> tuple[int, str]:
        return await self.run(sys.executable, "-I", "-c", code, *map(str, arguments))


@dataclass
class Origin:
    """A server on this machine's loopback that answers HTTP, and counts who came."""

    port: int = 0
    visits: int = 0
    open: int = 0
    most_open: int = 0
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        self.writers.add(writer)
        try:
            while line := await reader.readline():
                if line.startswith(b"ECHO"):
                    writer.write(line)
                elif line in (b"\r\n", b"\n"):
                    writer.write(b"HTTP/1.0 200 OK\r\n\r\nreached\n")
                    break
        except ConnectionError:
            pass
        finally:
            self.open -= 1
            self.writers.discard(writer)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@dataclass
class Lab:
    """A namespace with a gateway, and all that tests look at."""

    inside: Inside
    gateway: EgressGateway
    log: EgressLog
    sandbox: str

    @property
    def records(self) -> list[EgressRecord]:
        return list(self.log.of(self.sandbox))

    async def recorded(self, matches: Callable[[EgressRecord], bool]) -> EgressRecord:
        """Wait for a record: what the kernel logs comes a moment after what a client is told."""
        async with asyncio.timeout(BOUND_S):
            while not (found := [record for record in self.records if matches(record)]):
                await asyncio.sleep(0.01)
        return found[-1]


@pytest.fixture
def namespaces(tmp_path: Path) -> Iterator[NamespaceDescriptors]:
    """A network namespace, with a mount namespace in which the name server is the gateway's."""
    configuration = tmp_path / "resolv.conf"
    configuration.write_text(f"nameserver {NAME_SERVER}\noptions timeout:3 attempts:2\n")
    made = make_namespaces(mount=True)
    words = ["mount", "--bind", str(configuration), str(Path("/etc/resolv.conf").resolve())]
    subprocess.run([*enter_words(made), *words], check=True)
    yield made
    made.close()


@pytest.fixture
def inside(namespaces: NamespaceDescriptors) -> Inside:
    return Inside(namespaces)


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    served = Origin()
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0, backlog=512)
    served.port = server.sockets[0].getsockname()[1]
    yield served
    server.close()
    for writer in tuple(served.writers):
        writer.transport.abort()
    async with asyncio.timeout(BOUND_S):
        while served.open:
            await asyncio.sleep(0.01)


@pytest.fixture
async def lab(inside: Inside, origin: Origin) -> AsyncIterator[Callable[..., object]]:
    """Return a function that opens a gateway: by default the origin may be reached as `allowed.test`."""
    opened: list[EgressGateway] = []

    async def make(policy: NetworkPolicy | None = None, **options: object) -> Lab:
        log = EgressLog()
        settings: dict[str, object] = {
            "sandbox": "box-1",
            "trajectory": "trajectory-7",
            "names": {"allowed.test": "127.0.0.1"},
            **options,
        }
        policy = policy or NetworkPolicy(mode="allowlist", hosts=(f"allowed.test:{origin.port}",))
        gateway = EgressGateway(inside.namespaces, policy, log=log, **settings)  # type: ignore[arg-type]  # any option
        opened.append(gateway)
        await gateway.start()
        return Lab(inside=inside, gateway=gateway, log=log, sandbox="box-1")

    yield make
    for gateway in opened:
        await gateway.close()


@pytest.fixture(scope="session")
def static_client(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A static C program that connects to an address and a port, and says what came of it."""
    folder = tmp_path_factory.mktemp("static")
    source, program = folder / "client.c", folder / "client"
    source.write_text(_STATIC_CLIENT)
    subprocess.run(["gcc", "-static", "-o", str(program), str(source)], check=True)
    return str(program)


_STATIC_CLIENT = r"""
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv) {
    struct sockaddr_in target = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
    char answer[256] = {0};
    inet_pton(AF_INET, argv[1], &target.sin_addr);
    int connection = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(connection, (struct sockaddr *)&target, sizeof target)) { perror("connect"); return 1; }
    if (write(connection, "GET / HTTP/1.0\r\n\r\n", 18) != 18) { perror("write"); return 2; }
    if (read(connection, answer, sizeof answer - 1) <= 0) { perror("read"); return 3; }
    printf("%s", answer);
    return 0;
}
"""
