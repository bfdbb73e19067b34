"""Start one program on this machine, with pipes or a terminal, and watch it; knows no sandbox."""

import asyncio
import errno
import fcntl
import os
import struct
import subprocess
import termios
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from tumbler.contracts.sandbox_process import TerminalSize
from tumbler_backends.sandbox.posix.input import InputWriter

__all__ = ["LocalProgram", "NotStarted", "launch"]

_PIECE: Final = 1 << 16
_PIPE_BYTES: Final = 1 << 20
_LAST_READS: Final = 2 * _PIPE_BYTES // _PIECE
"""Enough to empty a pipe, and a bound where a child that is left goes on writing."""

Sink = Callable[[bytes], None]


class NotStarted(Exception):
    """The program could not be executed: the exit code and message that a shell would give."""

    def __init__(self, exit_code: int, message: str) -> None:
        """Keep both."""
        super().__init__(message)
        self.exit_code = exit_code


class LocalProgram:
    """A running program. Its output goes to the sinks until it ends; what children say later is thrown away."""

    def __init__(self, popen: "subprocess.Popen[bytes]", outputs: Sequence[tuple[int, Sink]], stdin: int) -> None:
        """Take over the process, the reading ends of its output with their sinks, and its input (−1 is none)."""
        loop = asyncio.get_running_loop()
        self.pid = popen.pid
        self.exited: asyncio.Future[int] = loop.create_future()
        """The exit code; minus the number of a signal that killed it. All its output has been handed over then."""
        self.stdin = InputWriter(stdin) if stdin >= 0 else None
        self._popen = popen
        self._pumps = [_Pump(descriptor, sink) for descriptor, sink in outputs]
        self._pidfd = os.pidfd_open(popen.pid)
        loop.add_reader(self._pidfd, self._reap)

    @property
    def finished(self) -> bool:
        """Tell whether it has ended and nobody is left who could write to its output."""
        return self.exited.done() and all(pump.descriptor < 0 for pump in self._pumps)

    def resize(self, size: TerminalSize) -> None:
        """Set the size of its terminal, which is its first output."""
        if self._pumps[0].descriptor >= 0:
            _set_size(self._pumps[0].descriptor, size)

    async def ended(self, timeout: float | None) -> bool:
        """Wait for the exit; tell whether it came in time."""
        done, _ = await asyncio.wait((self.exited,), timeout=timeout)
        return bool(done)

    def close(self) -> None:
        """Stop reading and writing; a child that is left gets a broken pipe."""
        for pump in self._pumps:
            pump.close()
        if self.stdin is not None:
            self.stdin.close()

    def _reap(self) -> None:
        code = self._popen.poll()
        if code is None:
            return
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        for pump in self._pumps:
            pump.finish()
        if self.stdin is not None:
            self.stdin.close()
        if not self.exited.done():
            self.exited.set_result(code)


class _Pump:
    """Hands a descriptor's bytes to a sink."""

    def __init__(self, descriptor: int, sink: Sink) -> None:
        self.descriptor = descriptor
        self._sink: Sink | None = sink
        os.set_blocking(descriptor, False)
        asyncio.get_running_loop().add_reader(descriptor, self._read_once)

    def finish(self) -> None:
        """Hand over what is there; what comes later is read and thrown away."""
        for _ in range(_LAST_READS):
            if not self._read_once():
                break
        self._sink = None

    def close(self) -> None:
        if self.descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self.descriptor)
            os.close(self.descriptor)
            self.descriptor = -1

    def _read_once(self) -> bool:
        if self.descriptor < 0:
            return False
        try:
            piece = os.read(self.descriptor, _PIECE)
        except BlockingIOError:
            return False
        except OSError:  # a terminal that nobody has open any more answers EIO
            piece = b""
        if not piece:
            self.close()
        elif self._sink is not None:
            self._sink(piece)
        return bool(piece)


def launch(
    words: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    stdin: bool,
    sinks: tuple[Sink, Sink],
    size: TerminalSize | None = None,
) -> LocalProgram:
    """Start a program as the leader of a new session.

    Raises `FileNotFoundError` where `cwd` does not exist, `ValueError` for words that cannot be, and
    `NotStarted` where the program cannot be executed.
    """
    if not words or any("\0" in word for word in words):
        raise ValueError(f"a command needs at least one word, and no word may hold a NUL: {words!r}")
    if not cwd.is_dir():
        raise FileNotFoundError(errno.ENOENT, "the working directory does not exist in the sandbox", str(cwd))
    return _with_pipes(words, env, cwd, stdin, sinks) if size is None else _with_terminal(words, env, cwd, sinks, size)


def _with_pipes(
    words: Sequence[str], env: Mapping[str, str], cwd: Path, stdin: bool, sinks: tuple[Sink, Sink]
) -> LocalProgram:
    pairs = [os.pipe2(os.O_CLOEXEC) for _ in range(3 if stdin else 2)]
    inner = [writer for _, writer in pairs[:2]] + [reader for reader, _ in pairs[2:]]
    outer = [reader for reader, _ in pairs[:2]] + [writer for _, writer in pairs[2:]]
    try:
        for reader in outer[:2]:
            with suppress(OSError):  # the user's quota for pipes is used up: floods are merely slower
                fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        popen = _popen(
            words, env, cwd, stdin=inner[2] if stdin else subprocess.DEVNULL, stdout=inner[0], stderr=inner[1]
        )
    except BaseException:
        _close(outer)
        raise
    finally:
        _close(inner)
    if stdin:
        os.set_blocking(outer[2], False)
    return LocalProgram(popen, list(zip(outer[:2], sinks, strict=True)), outer[2] if stdin else -1)


def _with_terminal(
    words: Sequence[str], env: Mapping[str, str], cwd: Path, sinks: tuple[Sink, Sink], size: TerminalSize
) -> LocalProgram:
    master, inner = os.openpty()
    try:
        _set_size(inner, size)
        # setsid makes the terminal the controlling one, which takes a step between fork and exec.
        popen = _popen(["setsid", "--ctty", "--", *words], {"TERM": "xterm", **env}, cwd, inner, inner, inner, False)
        stdin = os.dup(master)
    except BaseException:
        os.close(master)
        raise
    finally:
        os.close(inner)
    os.set_blocking(stdin, False)
    return LocalProgram(popen, [(master, sinks[0])], stdin)


def _popen(
    words: Sequence[str],
    env: Mapping[str, str],
    cwd: Path,
    stdin: int,
    stdout: int,
    stderr: int,
    new_session: bool = True,
) -> "subprocess.Popen[bytes]":
    def start(command: Sequence[str]) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [os.fsencode(word) for word in command],
            env={os.fsencode(name): os.fsencode(value) for name, value in env.items()},
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=new_session,
        )

    try:
        return start(words)
    except OSError as error:
        if error.errno == errno.ENOEXEC:
            return start(["/bin/sh", *words])
        if error.errno == errno.ENOENT:
            raise NotStarted(127, f"sh: {words[0]}: not found\n") from error
        if error.errno == errno.E2BIG:
            raise NotStarted(126, "sh: Argument list too long\n") from error
        if error.errno in (errno.EACCES, errno.EISDIR, errno.ENOTDIR, errno.ELOOP):
            raise NotStarted(126, f"sh: {words[0]}: {error.strerror}\n") from error
        raise


def _set_size(descriptor: int, size: TerminalSize) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.columns, 0, 0))


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
