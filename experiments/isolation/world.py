"""What the attempts aim at: a flag, a victim process, listeners, a neighbour; and what was seen to happen to them."""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from tumbler.contracts.sandbox import Sandbox, SandboxBackend, SandboxSpec

__all__ = ["METADATA", "World"]

METADATA = "169.254.169.254"
_VICTIM = (
    "import ctypes, os, sys, time\n"
    "memory = ctypes.create_string_buffer(os.environ['VICTIM_SECRET'].encode())\n"
    "flag = open(sys.argv[1])\n"
    "print(ctypes.addressof(memory), flush=True)\n"
    "time.sleep(3600)\n"
)
_NEIGHBOUR_SERVER = (
    "import socket\n"
    "server = socket.socket()\n"
    "server.bind(('127.0.0.1', {port}))\n"
    "server.listen()\n"
    "open('/tmp/neighbour-ready', 'w').close()\n"
    "while True:\n"
    "    link, _ = server.accept()\n"
    "    link.sendall(b'{secret}')\n"
    "    link.close()\n"
)
_TUNNEL_COMMAND = b"echo tunnelled-$((20 + 3))\n"
_WAIT_S = 30.0
_NAME_LENGTH = 15
"""The kernel keeps no more of a process's name."""


class World:
    """The outside, as one battery run meets it."""

    def __init__(self, folder: Path) -> None:
        """Plan a world that keeps its files in `folder`."""
        self.folder = folder
        self.secret = f"flag-{secrets.token_hex(16)}"
        self.flag = folder / "flag"
        self.target = folder / "target"
        self.heard = bytearray()
        """All that any listener received."""
        self.tunnels = 0
        """Reverse tunnels through which a command of ours was carried out."""
        self.abstract = f"tumbler-battery-{secrets.token_hex(8)}"
        self.tcp_port = self.udp_port = self.neighbour_port = 0
        self.victim: subprocess.Popen[str]
        self.victim_address = 0
        self.neighbour: Sandbox
        self.neighbour_word = f"neighbour-{secrets.token_hex(8)}"
        self.server_word = f"server-{secrets.token_hex(8)}"
        self.host_address = _host_address()

    def victim_lives(self) -> bool:
        """Tell whether the victim process is still there; start another where it is not."""
        if self.victim.poll() is None:
            return True
        self._start_victim()
        return False

    def neighbour_pids(self) -> list[str]:
        """Return the host's ids of the neighbour's marked process."""
        return processes_with(self.neighbour_word)

    def _start_victim(self) -> None:
        environment = {"PATH": os.environ["PATH"], "VICTIM_SECRET": self.secret}
        self.victim = subprocess.Popen(
            [sys.executable, "-c", _VICTIM, str(self.flag)], stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self.victim.stdout is not None
        self.victim_address = int(self.victim.stdout.readline())

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_WAIT_S):
                first = await reader.read(4096)
                self.heard += first
                if first.startswith(b"TUNNEL"):
                    writer.write(_TUNNEL_COMMAND)
                    await writer.drain()
                    self.tunnels += b"tunnelled-23" in await reader.read(4096)
                else:
                    writer.write(f"reached {self.secret}".encode())
                    await writer.drain()
        writer.close()

    @contextlib.asynccontextmanager
    async def open(self, backend: SandboxBackend) -> AsyncIterator[None]:
        """Lay everything out, and take it away again."""
        self.flag.write_text(self.secret)
        self.target.write_text("untouched\n")
        os.environ["TUMBLER_BATTERY_SECRET"] = self.secret
        self._start_victim()
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._end_victim)
            stack.callback(os.environ.pop, "TUMBLER_BATTERY_SECRET", None)
            stack.enter_context(_metadata_address())
            tcp = await asyncio.start_server(self._answer, "0.0.0.0", 0)
            stack.callback(tcp.close)
            self.tcp_port = tcp.sockets[0].getsockname()[1]
            local = await asyncio.start_unix_server(self._answer, "\0" + self.abstract)
            stack.callback(local.close)
            loop = asyncio.get_running_loop()
            udp, _ = await loop.create_datagram_endpoint(lambda: _Ears(self), local_addr=("0.0.0.0", 0))
            stack.callback(udp.close)
            self.udp_port = udp.get_extra_info("sockname")[1]
            self.neighbour = await backend.create(SandboxSpec())
            stack.callback(self._end_neighbour)
            stack.push_async_callback(self.neighbour.delete)
            await self._settle_neighbour()
            yield

    async def _settle_neighbour(self) -> None:
        self.neighbour_port = _free_port()
        server = _NEIGHBOUR_SERVER.format(port=self.neighbour_port, secret=self.secret)
        program = f"/tmp/{self.server_word}.py"
        await self.neighbour.write(program, server.encode())
        await self.neighbour.write("/tmp/neighbour-secret", self.secret.encode())
        session = await self.neighbour.session()
        await session.run(f"rm -f /tmp/neighbour-ready; python3 {program} & disown")
        await session.run(f"bash -c 'while :; do sleep 1; done' {self.neighbour_word} & disown")
        ready = "for i in $(seq 100); do [ -e /tmp/neighbour-ready ] && break; sleep 0.1; done; ls /tmp/neighbour-ready"
        result = await session.run(ready, timeout=_WAIT_S)
        if result.exit_code != 0:
            raise RuntimeError(f"the neighbour's server did not start: {result.stderr!r}")

    def _end_neighbour(self) -> None:
        """End what a weakened sandbox left running on the host, and remove its files."""
        for pid in [*self.neighbour_pids(), *processes_with(self.server_word)]:
            with contextlib.suppress(OSError):
                os.kill(int(pid), signal.SIGKILL)
        for name in (f"{self.server_word}.py", "neighbour-secret", "neighbour-ready"):
            Path("/tmp", name).unlink(missing_ok=True)

    def _end_victim(self) -> None:
        self.victim.kill()
        self.victim.wait()
        if self.victim.stdout is not None:
            self.victim.stdout.close()


class _Ears(asyncio.DatagramProtocol):
    def __init__(self, world: World) -> None:
        self._world = world

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._world.heard += data


def processes_with(word: str) -> list[str]:
    """Return the ids of the processes on this host that bear a word: in the command line, or as a zombie's name."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and folder.name != str(os.getpid()):
            with contextlib.suppress(OSError):
                named = (folder / "comm").read_text().strip() == word[:_NAME_LENGTH]
                if named or word.encode() in (folder / "cmdline").read_bytes():
                    found.append(folder.name)
    return found


def _host_address() -> str:
    """Return an address of this host that is not loopback; loopback where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # sends nothing
        return str(probe.getsockname()[0])
    return "127.0.0.1"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _metadata_address():  # noqa: ANN202  # a context without a value
    """Let this host answer at the metadata address, as a cloud does, where it may be arranged."""
    words = ["ip", "address", "{}", f"{METADATA}/32", "dev", "lo"]
    able = os.getuid() == 0 and shutil.which("ip") is not None
    if able:
        subprocess.run([word.format("add") for word in words], check=False, capture_output=True)
    try:
        yield
    finally:
        if able:
            subprocess.run([word.format("del") for word in words], check=False, capture_output=True)


def new_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder that everybody on the host may enter and write: only the sandbox keeps code out of it."""
    folder = tempfile.TemporaryDirectory(prefix="battery-")
    Path(folder.name).chmod(0o777)
    return folder
