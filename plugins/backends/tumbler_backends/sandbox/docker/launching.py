"""Start processes in containers through `launcher.py`, and hear how they end; knows no container and no time-out."""

import array
import asyncio
import base64
import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tumbler.errors import SandboxStartFailed, SandboxUnavailable
from tumbler_backends.sandbox.docker.launcher import Request

__all__ = ["Ending", "Launched", "Launcher"]

_PROGRAM: Final = Path(__file__).with_name("launcher.py")
_MESSAGE_BYTES: Final = 1 << 17
_END_S: Final = 10.0


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a process ended."""

    code: int
    """128 + n where it died of signal n."""
    cpu_seconds: float | None = None
    """Of the process and those of its children that it waited for."""
    max_rss_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Launched:
    """A process that runs now."""

    pid: int
    ended: "asyncio.Future[Ending]"
    terminal: int | None = None
    """The descriptor of its terminal's master; the caller closes it."""


class Launcher:
    """The running helper program. Use one for many containers, in one event loop."""

    def __init__(self, filters: Sequence[bytes]) -> None:
        """Start the program; `filters` are the seccomp programs of all that it starts."""
        self._loop = asyncio.get_running_loop()
        self._channel, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._numbers = itertools.count(1)
        self._started: dict[int, asyncio.Future[Launched]] = {}
        self._running: dict[int, asyncio.Future[Ending]] = {}
        try:
            self._program = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_PROGRAM)], stdin=inner.fileno(), env={}, start_new_session=True
            )
        except OSError:
            self._channel.close()
            raise
        finally:
            inner.close()
        self._channel.setblocking(False)
        self._channel.send(json.dumps([base64.b64encode(program).decode() for program in filters]).encode())
        self._loop.add_reader(self._channel, self._hear)

    @property
    def open(self) -> bool:
        """Tell whether the program runs."""
        return self._channel.fileno() >= 0

    async def launch(self, container: int, request: Request, streams: Sequence[int]) -> Launched:
        """Start a command in the container of pidfd `container`.

        `streams` are its three standard streams, which the caller closes; none for a terminal. Raises the builtin
        `OSError` classes where the working directory is missing, and `SandboxStartFailed` otherwise.
        """
        report, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.closing(report):
            report.setblocking(False)
            try:
                launched = await self._ask(request, (container, inner.fileno(), *streams))
            finally:
                inner.close()
            try:
                terminal = await self._ready(report, request)
            except asyncio.CancelledError:
                _kill(launched.pid)
                raise
        return replace(launched, terminal=terminal)

    async def close(self) -> None:
        """End the program; what it has started is killed."""
        self._lose()
        self._program.kill()
        await asyncio.to_thread(self._program.wait, _END_S)

    async def _ask(self, request: Request, descriptors: Sequence[int]) -> Launched:
        number = next(self._numbers)
        file = os.memfd_create("tumbler-request", os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(file), "w") as text:
                json.dump(request, text)
            self._send(number, array.array("i", [file, *descriptors]))
        finally:
            os.close(file)
        started = self._started[number] = self._loop.create_future()
        try:
            return await asyncio.shield(started)
        except asyncio.CancelledError:
            started.add_done_callback(_kill_unwanted)
            raise

    def _send(self, number: int, rights: "array.array[int]") -> None:
        try:
            self._channel.sendmsg([b"%d" % number], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        except OSError as error:
            raise SandboxUnavailable(f"the launcher of commands does not answer: {error}") from error

    async def _ready(self, report: socket.socket, request: Request) -> int | None:
        """Wait until the command runs, which closes the report; return its terminal."""
        terminal = None
        while True:
            readable: asyncio.Future[None] = self._loop.create_future()
            self._loop.add_reader(report, _settle, readable)
            try:
                await readable
            finally:
                self._loop.remove_reader(report)
            message, rights = _receive(report)
            if not message:
                return terminal
            if message == b"terminal" and rights:
                terminal = rights[0]
                continue
            failure = json.loads(message)
            if failure["stage"] == "cwd":
                raise OSError(failure["errno"], os.strerror(failure["errno"]), request["cwd"])
            raise SandboxStartFailed(f"a command could not be started: {failure['error']}", "launch")

    def _hear(self) -> None:
        while True:
            try:
                message = self._channel.recv(_MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self._lose()
                return
            self._take(json.loads(message))

    def _take(self, told: dict[str, int | float | str | None]) -> None:
        if "ended" in told:
            code = int(told["code"] or 0)
            ending = Ending(
                code=128 - code if code < 0 else code,
                cpu_seconds=float(told["cpu"] or 0.0),
                max_rss_bytes=int(told["rss"] or 0),
            )
            ended = self._running.pop(int(told["ended"] or 0), None)
            if ended is not None and not ended.done():
                ended.set_result(ending)
            return
        started = self._started.pop(int(told["id"] or 0))
        if told["pid"] is None:
            started.set_exception(SandboxStartFailed(f"a command could not be started: {told['error']}", "launch"))
            return
        pid = int(told["pid"])
        ended = self._running[pid] = self._loop.create_future()
        started.set_result(Launched(pid=pid, ended=ended))

    def _lose(self) -> None:
        """Tell all who wait that nothing will come any more."""
        if self._channel.fileno() < 0:
            return
        self._loop.remove_reader(self._channel)
        self._channel.close()
        lost = SandboxUnavailable("the launcher of commands has ended, and its commands with it")
        waiting: list[asyncio.Future[Launched] | asyncio.Future[Ending]] = [*self._started.values()]
        for future in [*waiting, *self._running.values()]:
            if not future.done():
                future.set_exception(lost)
                future.exception()  # nobody may be waiting
        self._started.clear()
        self._running.clear()


def _kill_unwanted(started: "asyncio.Future[Launched]") -> None:
    if not started.cancelled() and started.exception() is None:
        _kill(started.result().pid)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _receive(report: socket.socket) -> tuple[bytes, list[int]]:
    room = array.array("i", [0])
    try:
        message, ancillary, _, _ = report.recvmsg(_MESSAGE_BYTES, socket.CMSG_SPACE(room.itemsize))
    except ConnectionResetError:
        return b"", []
    rights = array.array("i")
    for _, _, data in ancillary:
        rights.frombytes(data[: room.itemsize])
    return message, list(rights)


def _settle(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
