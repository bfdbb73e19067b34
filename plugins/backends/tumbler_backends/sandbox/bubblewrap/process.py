"""Start one bwrap process, watch it and kill it; knows neither commands nor sessions.

The first program inside says one word over its control socket, once bwrap has tied it to this
process's life, and does nothing before this process answers. So a start that fails is never
mistaken for a command that fails, limits hold before any untrusted code runs, and a process that
dies in the middle of a start leaves nothing running.
"""

import asyncio
import contextlib
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tumbler.errors import SandboxStartFailed
from tumbler_backends.sandbox.bubblewrap.capture import Capture

__all__ = ["BubblewrapProcess"]

_CREDENTIALS: Final = struct.Struct("iII")
_DIAGNOSIS_BYTES: Final = 1 << 14
_RECEIVE_BYTES: Final = 1 << 16
_DEATH_S: Final = 10.0
"""How long the kernel may take to tear down a namespace all of whose processes are killed."""


class BubblewrapProcess:
    """A running bwrap and all that lives in its namespaces."""

    def __init__(self, command: Sequence[str], pass_descriptor: int) -> None:
        """Start `command`; `pass_descriptor` is inherited, all others are not.

        Must run in the event loop's thread: the kernel kills bwrap when the thread that started it ends.
        """
        loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int] = loop.create_future()
        """The exit code: 128 + n where the program died of signal n."""
        self.dead: asyncio.Future[None] = loop.create_future()
        """Settled once nothing lives in the namespaces."""
        self._control, inner = socket.socketpair()
        diagnosis, diagnosis_inner = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(diagnosis, False)
        self._control.setblocking(False)
        self._control.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        try:
            self._popen = subprocess.Popen(
                command,
                stdin=inner.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=diagnosis_inner,
                env={},
                pass_fds=(pass_descriptor,),
                start_new_session=True,
            )
        except BaseException:
            os.close(diagnosis)
            self._control.close()
            raise
        finally:
            inner.close()
            os.close(diagnosis_inner)
        # bwrap's init holds this pipe as long as anything lives in the namespaces.
        self._diagnosis = Capture(diagnosis, _DIAGNOSIS_BYTES, on_end=lambda: _settle(self.dead))
        self._pidfd = os.pidfd_open(self._popen.pid)
        loop.add_reader(self._pidfd, self._reap)
        self.dead.add_done_callback(self._close_control)

    async def ready(self, timeout: float) -> tuple[bytes, int]:
        """Wait for the first word from inside; return it and the speaker's pid.

        Raises `SandboxStartFailed` with what bwrap said where there is none.
        """
        loop = asyncio.get_running_loop()
        spoken: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._control, _settle, spoken)
        try:
            async with asyncio.timeout(timeout):
                await asyncio.wait((spoken, self.exited), return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            raise SandboxStartFailed(f"bwrap was not ready after {timeout} s; {self._diagnosed()}") from None
        finally:
            if self._control.fileno() >= 0:  # closed, and no longer watched, once everything inside is dead
                loop.remove_reader(self._control)
        with contextlib.suppress(OSError):  # nothing said, or reset or closed by a death
            word, ancillary, _, _ = self._control.recvmsg(_RECEIVE_BYTES, socket.CMSG_SPACE(_CREDENTIALS.size))
            if word and ancillary:
                return word, int(_CREDENTIALS.unpack(ancillary[0][2])[0])
        await self.killed()
        raise SandboxStartFailed(f"bwrap ended before the first command; {self._diagnosed()}")

    def send(self, words: bytes) -> None:
        """Say something to the program inside; it is meant to be short, and is lost on a dead program."""
        with contextlib.suppress(OSError):
            self._control.send(words)

    def listen(self, heard: Callable[[bytes], None]) -> None:
        """Call `heard` with what the program inside says from now on."""

        def receive() -> None:
            try:
                words = self._control.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                return
            except ConnectionResetError:  # the program died with something unread
                words = b""
            if words:
                heard(words)
            else:
                asyncio.get_running_loop().remove_reader(self._control)

        if self._control.fileno() >= 0:
            asyncio.get_running_loop().add_reader(self._control, receive)

    def terminate(self) -> None:
        """Send SIGTERM to everything inside but bwrap's own init."""
        if self.exited.done():
            return
        for init in _children(self._popen.pid):
            for pid in _descendants(init):
                _signal(pid, signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to everything: the death of bwrap's init takes the pid namespace along."""
        if self.exited.done():
            return
        # Until it has set itself up, init outlives bwrap; and a bwrap that is stopped makes no init behind our back.
        _signal(self._popen.pid, signal.SIGSTOP)
        for init in _children(self._popen.pid):
            _signal(init, signal.SIGKILL)
        _signal(self._popen.pid, signal.SIGKILL)

    async def killed(self) -> None:
        """Kill everything, and return once nothing is left."""
        self.kill()
        if not (self.exited.done() and self.dead.done()):
            await asyncio.wait((self.exited, self.dead), timeout=_DEATH_S)
        self._diagnosis.close()
        _settle(self.dead)

    async def ended(self, timeout: float) -> bool:
        """Wait for the exit at most `timeout` seconds; tell whether it came."""
        done, _ = await asyncio.wait((self.exited,), timeout=timeout)
        return bool(done)

    def _reap(self) -> None:
        code = self._popen.poll()
        if code is None:
            return
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        if not self.exited.done():
            self.exited.set_result(128 - code if code < 0 else code)

    def _close_control(self, _: "asyncio.Future[None]") -> None:
        asyncio.get_running_loop().remove_reader(self._control)
        self._control.close()

    def _diagnosed(self) -> str:
        said = self._diagnosis.data.decode(errors="replace").strip()
        return f"it said: {said}" if said else "it said nothing"


def _settle(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _children(pid: int) -> list[int]:
    """Return the direct children; none where the kernel does not list them."""
    try:
        threads = sorted(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    except OSError:  # gone meanwhile
        return []


def _descendants(pid: int) -> list[int]:
    found = []
    waiting = _children(pid)
    while waiting:
        found.append(waiting.pop())
        waiting += _children(found[-1])
    return found


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
