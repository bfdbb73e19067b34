"""Long-running processes: output that is kept, stdin, signals, terminals."""

import asyncio
import fcntl
import os
import struct
import termios
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

from tumbler.contracts.sandbox_process import OutputSlice, ProcessExit, Stream, TerminalSize
from tumbler.errors import CapabilityError, SandboxError
from tumbler_backends.sandbox.docker.box import Box
from tumbler_backends.sandbox.docker.capturing import PipeReader
from tumbler_backends.sandbox.docker.command import given_stream, kill_quietly, words_of
from tumbler_backends.sandbox.docker.launching import Ending
from tumbler_backends.sandbox.docker.place import Started
from tumbler_backends.sandbox.posix.input import InputWriter
from tumbler_backends.sandbox.posix.spawning import SpawnRecord

__all__ = ["DockerProcess", "spawn_process"]

_SIGNALS: Final = range(129, 193)


class DockerProcess:
    """One spawned process; see `tumbler.contracts.sandbox_process.Process`."""

    def __init__(
        self,
        box: Box,
        started: Started,
        record: SpawnRecord,
        stdin: InputWriter | None,
        readers: Sequence[PipeReader],
        terminal: int | None,
        timeout: float | None,
    ) -> None:
        """Take over a process that runs, its input, and what reads its output."""
        self.record = record
        self._box = box
        self._started = started
        self._stdin = stdin
        self._readers = readers
        self._terminal = terminal
        self._watching = asyncio.ensure_future(self._watch(timeout))

    @property
    def exec_id(self) -> str:
        """Return the id it was spawned under."""
        return self.record.exec_id

    @property
    def pid(self) -> int | None:
        """Return the process id as the engine's machine knows it."""
        return self._started.pid

    async def read(
        self, stream: Stream = "stdout", *, offset: int = 0, limit: int = 1 << 16, timeout: float = 60.0
    ) -> OutputSlice:
        """Return what the stream holds from byte `offset` on."""
        return await self.record.read(stream, offset=offset, limit=limit, timeout=timeout)

    def follow(self, stream: Stream = "stdout", *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield the stream from byte `offset` on until it ends."""
        return self.record.follow(stream, offset=offset)

    async def write_stdin(self, data: bytes) -> None:
        """Send bytes to its standard input."""
        if self._stdin is None or self.record.ended:
            raise BrokenPipeError(f"the process {self.exec_id!r} takes no input: it has ended, or was spawned without")
        await self._stdin.write(data)

    async def close_stdin(self) -> None:
        """End its standard input; in a terminal, that is Ctrl-D."""
        if self._stdin is None or self._stdin.closed:
            return
        await self._stdin.drained()
        if self._terminal is not None:
            await self._stdin.write(b"\x04")
        else:
            self._stdin.close()

    async def signal(self, number: int) -> None:
        """Send a signal to the process and its children."""
        if not self.record.ended:
            await self._started.signal(number)

    async def resize(self, size: TerminalSize) -> None:
        """Set the size of its terminal."""
        if self._terminal is None:
            raise CapabilityError(f"the process {self.exec_id!r} has no terminal: spawn it with `pty`")
        if not self.record.ended:
            set_terminal_size(self._terminal, size)

    async def poll(self) -> ProcessExit | None:
        """Return how it ended; None while it runs."""
        return await self.record.poll()

    async def wait(self, timeout: float | None = None) -> ProcessExit:
        """Wait for its end."""
        return await self.record.wait(timeout)

    async def kill(self) -> ProcessExit:
        """End it and all its children."""
        if not self.record.ended:
            await self._box.stop(self._started)
        await asyncio.shield(self._watching)
        return await self.record.wait(None)

    async def _watch(self, timeout: float | None) -> None:
        """Record the end, whatever it is."""
        try:
            ending = await self._box.ended(self._started, timeout)
            timed_out = ending is None
            if ending is None:
                ending = await self._box.stop(self._started)
            self._take_output()
            self.record.finish(self._exit(ending, timed_out))
            await self._started.release()
        except SandboxError as error:
            self._take_output()
            self.record.fail(error)
            await kill_quietly(self._started)
        finally:
            if self._stdin is not None:
                self._stdin.close()

    def _take_output(self) -> None:
        for reader in self._readers:
            reader.drain()
        self._box.leave(self._readers)

    def _exit(self, ending: Ending, timed_out: bool) -> ProcessExit:
        return ProcessExit(
            exit_code=ending.code,
            signal=ending.code - 128 if ending.code in _SIGNALS else None,
            oom=ending.code != 0 and self._box.ran_out_of_memory(),
            timed_out=timed_out,
            duration=self.record.seconds(),
        )


async def spawn_process(
    box: Box,
    command: str | Sequence[str],
    record: SpawnRecord,
    *,
    stdin: bool,
    terminal: TerminalSize | None,
    cwd: str | None,
    env: Mapping[str, str],
    timeout: float | None,
) -> DockerProcess:
    """Start a process whose output goes to `record`."""
    words = words_of(command)
    if terminal is not None:
        started = await box.start(words, (), cwd=cwd, env={"TERM": "xterm", **env}, terminal=terminal)
        master = started.terminal
        if master is None:
            raise CapabilityError("no terminal could be had in this sandbox")
        os.set_blocking(master, False)
        reader = PipeReader(os.dup(master), record.stdout.feed)
        return DockerProcess(box, started, record, InputWriter(master), (reader,), master, timeout)
    pipes: list[int] = []
    try:
        for _ in ("stdout", "stderr", "stdin"):
            pipes += os.pipe2(os.O_CLOEXEC)
        with given_stream(None) as nothing:
            streams = (pipes[4] if stdin else nothing, pipes[1], pipes[3])
            started = await box.start(words, streams, cwd=cwd, env=env)
    except BaseException:
        for descriptor in pipes:
            os.close(descriptor)
        raise
    for descriptor in (pipes[1], pipes[3], pipes[4]):
        os.close(descriptor)
    readers = (PipeReader(pipes[0], record.stdout.feed), PipeReader(pipes[2], record.stderr.feed))
    os.set_blocking(pipes[5], False)
    writer = InputWriter(pipes[5])
    if not stdin:
        writer.close()
    return DockerProcess(box, started, record, writer if stdin else None, readers, None, timeout)


def set_terminal_size(terminal: int, size: TerminalSize) -> None:
    """Set the size of a pseudo-terminal, and tell its programs."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.columns, 0, 0))
