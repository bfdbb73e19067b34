"""Start one bwrap process, watch it and kill it; knows neither commands nor sessions.

bwrap stands still before the first program inside, until limits are set: they hold before any
untrusted code runs. The first program says one word over its control socket, once bwrap has tied it
to this process's life, and does nothing before this process answers. So a start that fails is never
mistaken for a command that fails, and a process that dies in the middle of a start leaves nothing running.
"""

import asyncio
import contextlib
import os
import re
import resource
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tumbler.errors import SandboxStartFailed
from tumbler_backends.sandbox.bubblewrap.processes.capture import Capture
from tumbler_backends.sandbox.bubblewrap.processes.launching import launch
from tumbler_backends.sandbox.bubblewrap.processes.tree import children, cpu_seconds, descendants, send_signal
from tumbler_backends.sandbox.egress.network_namespace import NamespaceDescriptors

__all__ = ["BubblewrapProcess", "ProcessUsage"]

_CHILD: Final = re.compile(rb'"child-pid": (\d+)')
_DIAGNOSIS_BYTES: Final = 1 << 14
_RECEIVE_BYTES: Final = 1 << 16
_COUNTING_S: Final = 0.2
_DEATH_S: Final = 10.0
"""How long the kernel may take to tear down a namespace all of whose processes are killed."""


@dataclass(frozen=True, kw_only=True)
class ProcessUsage:
    """What an ended bwrap and all that ran in its namespaces used.

    bwrap waits for the first program inside, and that one for everything that ends before it: so the
    command, its children and daemons that have ended are counted. What the kernel kills because the
    first program has ended is not. bwrap's own share and that of the shell that starts the command,
    some milliseconds and 2 MiB, are in it.
    """

    cpu_seconds: float
    """User and system time."""
    max_rss_bytes: int | None
    """The largest resident memory of one process; None where this process's own, which the kernel counts as bwrap's
    at its start, is larger and hides it."""


class BubblewrapProcess:
    """A running bwrap and all that lives in its namespaces."""

    def __init__(
        self,
        program: Sequence[str],
        arguments: Sequence[str],
        descriptors: Sequence[int],
        namespaces: NamespaceDescriptors | None = None,
    ) -> None:
        """Start bwrap, called `program`, with `arguments`; `descriptors` are inherited, all others are not.

        With `namespaces`, it starts in there.

        Without, it must run in the event loop's thread: the kernel kills bwrap when the thread that started it ends.
        """
        loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int] = loop.create_future()
        """The exit code: 128 + n where the program died of signal n."""
        self.dead: asyncio.Future[None] = loop.create_future()
        """Settled once nothing lives in the namespaces."""
        self.usage: ProcessUsage | None = None
        """What it used; None before its end."""
        self.thaw: Callable[[Sequence[int]], None] | None = None
        """Lets frozen processes run, for a frozen one cannot die; None where none is frozen."""
        self._heard: Callable[[bytes], None] | None = None
        self._killed = False
        self._struck: int | None = None
        self._first: int | None = None
        self._hidden_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        launched = launch(program, arguments, descriptors, namespaces)
        self._popen, self._control = launched.popen, launched.control
        self._news, self._gate = launched.news, launched.gate
        self._diagnosis = Capture(launched.diagnosis, _DIAGNOSIS_BYTES, on_end=lambda: _settle(self.dead))
        self._pidfd = os.pidfd_open(self._popen.pid)
        loop.add_reader(self._pidfd, self._reap)
        self.dead.add_done_callback(self._close_control)

    @property
    def pid(self) -> int:
        """Return bwrap's process id on the host."""
        return self._popen.pid

    @property
    def struck(self) -> int | None:
        """Return the signal that somebody outside of the sandbox killed bwrap with; None where nobody did."""
        return self._struck

    async def admit(self, limit: Callable[[int], None], timeout: float) -> int:
        """Let the first program start once `limit`, called in a thread with its pid, has returned; return the pid.

        Raises `SandboxStartFailed` with what bwrap said where there is no such program after `timeout` seconds.
        """
        try:
            found = _CHILD.search(await self._hear_news(timeout))
            if found is None:
                raise await self._failure()
            self._first = int(found[1])
            await asyncio.to_thread(limit, self._first)
            if self._gate >= 0:
                with contextlib.suppress(BrokenPipeError):  # bwrap failed meanwhile, and `hear` tells
                    os.write(self._gate, b"g")
        finally:
            self._close_gate()
        return self._first

    async def hear(self, timeout: float) -> bytes:
        """Wait for the next word from inside, and return it.

        Raises `SandboxStartFailed` with what bwrap said where there is none.
        """
        await self._until_readable(self._control, timeout)
        self._close_news()
        with contextlib.suppress(OSError):  # nothing said, or reset or closed by a death
            if word := self._control.recv(_RECEIVE_BYTES):
                return word
        raise await self._failure()

    def send(self, words: bytes) -> None:
        """Say something to the program inside; it is meant to be short, and is lost on a dead program."""
        with contextlib.suppress(OSError):
            self._control.send(words)

    def listen(self, heard: Callable[[bytes], None]) -> None:
        """Call `heard` with what the program inside says from now on; all of it was heard when `killed` returns."""
        self._heard = heard
        if self._control.fileno() >= 0:
            asyncio.get_running_loop().add_reader(self._control, self._receive)

    def members(self) -> list[int]:
        """Return the pids on the host of everything inside but the first program."""
        if self.exited.done():
            return []
        return descendants(self._first) if self._first is not None else []

    def signal(self, number: int) -> None:
        """Send a signal to everything inside but the first program, which only waits for the rest."""
        for pid in self.members():
            send_signal(pid, number)

    def cpu_seconds(self) -> float:
        """Return the processor time used so far, of what runs and of what has ended inside."""
        if self.usage is not None:
            return self.usage.cpu_seconds
        return sum(cpu_seconds(pid) for pid in (self._popen.pid, *descendants(self._popen.pid)))

    def kill(self) -> None:
        """Send SIGKILL to everything: the death of the first program takes the pid namespace along."""
        if self.exited.done():
            return
        self._killed = True
        frozen = descendants(self._popen.pid) if self.thaw is not None else []
        # Until it has set itself up, the first program outlives bwrap; and a bwrap that is stopped makes none
        # behind our back.
        send_signal(self._popen.pid, signal.SIGSTOP)
        if self._first is None:  # it may be making the first program now, and stops only after that
            os.waitid(os.P_PID, self._popen.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        for first in children(self._popen.pid):
            send_signal(first, signal.SIGKILL)
        send_signal(self._popen.pid, signal.SIGKILL)
        if self.thaw is not None:
            self.thaw(frozen)

    async def killed(self) -> None:
        """Kill everything, and return once nothing is left."""
        self.kill()
        if not (self.exited.done() and self.dead.done()):
            await asyncio.wait((self.exited, self.dead), timeout=_DEATH_S)
        self._diagnosis.close()
        self._receive()
        _settle(self.dead)

    async def stop(self, grace: float) -> None:
        """End everything: SIGTERM to all that runs inside, `grace` seconds, SIGKILL."""
        if grace > 0 and self.thaw is None:
            self.signal(signal.SIGTERM)
            if not await self.ended(grace):
                # First without the first program, which then counts what they have used.
                self.signal(signal.SIGKILL)
                await self.ended(_COUNTING_S)
        await self.killed()

    async def ended(self, timeout: float | None) -> bool:
        """Wait for the exit at most `timeout` seconds; tell whether it came."""
        done, _ = await asyncio.wait((self.exited,), timeout=timeout)
        return bool(done)

    def diagnosed(self) -> str:
        """Return in words what bwrap said."""
        said = self._diagnosis.data.decode(errors="replace").strip()
        return f"it said: {said}" if said else "it said nothing"

    async def _hear_news(self, timeout: float) -> bytes:
        """Return all that bwrap tells about its child: it comes in pieces, and a closed pipe would kill bwrap."""
        news = b""
        while b"}" not in news:
            await self._until_readable(self._news, timeout)
            if self._news < 0:  # all inside is dead meanwhile
                break
            try:
                piece = os.read(self._news, _RECEIVE_BYTES)
            except BlockingIOError:  # bwrap has ended
                break
            if not piece:
                break
            news += piece
        return news

    async def _until_readable(self, place: "int | socket.socket", timeout: float) -> None:
        """Wait until there is something to read, or bwrap has ended."""
        loop = asyncio.get_running_loop()
        readable: asyncio.Future[None] = loop.create_future()
        loop.add_reader(place, _settle, readable)
        try:
            done, _ = await asyncio.wait((readable, self.exited), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Both are closed once everything inside is dead, and their numbers may be another's by now.
            if place in (self._news, self._control) and (isinstance(place, int) or place.fileno() >= 0):
                loop.remove_reader(place)
        if not done:
            raise SandboxStartFailed(f"bwrap was not ready after {timeout} s; {self.diagnosed()}", "create")

    async def _failure(self) -> SandboxStartFailed:
        await self.killed()
        return SandboxStartFailed(f"bwrap ended before the first command; {self.diagnosed()}", "create")

    def _reap(self) -> None:
        pid, status, used = os.wait4(self._popen.pid, os.WNOHANG)
        if pid == 0:
            return
        code = self._popen.returncode = os.waitstatus_to_exitcode(status)
        self.usage = ProcessUsage(
            cpu_seconds=used.ru_utime + used.ru_stime,
            max_rss_bytes=used.ru_maxrss << 10 if used.ru_maxrss > self._hidden_rss else None,
        )
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        if code < 0 and not self._killed:
            self._struck = -code
        if not self.exited.done():
            self.exited.set_result(128 - code if code < 0 else code)

    def _receive(self) -> None:
        if self._heard is None or self._control.fileno() < 0:
            return
        try:
            words = self._control.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except ConnectionResetError:  # the program died with something unread
            words = b""
        if words:
            self._heard(words)
        else:
            asyncio.get_running_loop().remove_reader(self._control)

    def _close_news(self) -> None:
        # Not before the first word: see `Launched.news`.
        if self._news >= 0:
            asyncio.get_running_loop().remove_reader(self._news)
            os.close(self._news)
            self._news = -1

    def _close_gate(self) -> None:
        if self._gate >= 0:
            os.close(self._gate)
            self._gate = -1

    def _close_control(self, _: "asyncio.Future[None]") -> None:
        self._close_gate()
        self._close_news()
        self._receive()
        asyncio.get_running_loop().remove_reader(self._control)
        self._control.close()


def _settle(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
