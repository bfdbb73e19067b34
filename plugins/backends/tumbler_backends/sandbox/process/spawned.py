"""The spawned processes of a box: started once, read and steered from anywhere."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

from tumbler.contracts.sandbox_process import OutputSlice, ProcessExit, Stream, TerminalSize
from tumbler.errors import CapabilityError
from tumbler_backends.sandbox.posix.spawner import words_of
from tumbler_backends.sandbox.posix.spawning import SpawnBook, SpawnRecord
from tumbler_backends.sandbox.process.box import Box, BoxProgram
from tumbler_backends.sandbox.process.commands import exit_of
from tumbler_backends.sandbox.process.launch import NotStarted

__all__ = ["SpawnedProcess", "SpawnedProcesses", "start_recorded"]


class SpawnedProcess:
    """One process; see `tumbler.contracts.sandbox_process.Process` for what each method promises."""

    def __init__(self, record: SpawnRecord, started: BoxProgram | None, *, terminal: bool) -> None:
        """Take over what was started; None is a program that could not be executed."""
        self.record = record
        self._started = started
        self._terminal = terminal

    @property
    def exec_id(self) -> str:
        """Return the id it was spawned under."""
        return self.record.exec_id

    @property
    def pid(self) -> int | None:
        """Return the process id on this machine."""
        return self._started.program.pid if self._started is not None else None

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
        stdin = self._started.program.stdin if self._started is not None else None
        if stdin is None or self.record.ended:
            raise BrokenPipeError(f"the process {self.exec_id!r} reads no input: it has ended, or its stdin is closed")
        await stdin.write(data)

    async def close_stdin(self) -> None:
        """End its standard input."""
        stdin = self._started.program.stdin if self._started is not None else None
        if stdin is not None and not stdin.closed:
            await stdin.drained()
            stdin.close()

    async def signal(self, number: int) -> None:
        """Send a signal to the process and its children."""
        if self._started is not None and not self.record.ended:
            await self._started.signal(number)

    async def resize(self, size: TerminalSize) -> None:
        """Set the size of its terminal."""
        if not self._terminal or self._started is None:
            raise CapabilityError(f"the process {self.exec_id!r} has no terminal: spawn it with `pty`")
        self._started.program.resize(size)

    async def poll(self) -> ProcessExit | None:
        """Return how it ended; None while it runs."""
        return await self.record.poll()

    async def wait(self, timeout: float | None = None) -> ProcessExit:
        """Wait for its end."""
        return await self.record.wait(timeout)

    async def kill(self) -> ProcessExit:
        """End it and all its children."""
        if self._started is not None and not self.record.ended:
            await self._started.kill()
        return await self.record.wait(None)


def start_recorded(
    box: Box,
    record: SpawnRecord,
    words: Sequence[str],
    *,
    cwd: str | None,
    env: Mapping[str, str],
    stdin: bool,
    size: TerminalSize | None = None,
    timeout: float | None = None,
) -> BoxProgram | None:
    """Start a program whose output and end go into a record; None where it could not be executed."""
    try:
        sinks = (record.stdout.feed, record.stderr.feed)
        started = box.start(words, cwd=cwd, env=env, stdin=stdin, sinks=sinks, size=size)
    except NotStarted as refused:
        record.stderr.feed(str(refused).encode())
        record.finish(ProcessExit(exit_code=refused.exit_code, duration=record.seconds()))
        return None
    watching = asyncio.get_running_loop().create_task(_watch(box, record, started, timeout))
    box.watching.add(watching)
    watching.add_done_callback(box.watching.discard)
    return started


async def _watch(box: Box, record: SpawnRecord, started: BoxProgram, timeout: float | None) -> None:
    timed_out = not await started.program.ended(timeout)
    if timed_out:
        await started.kill()
    exit_code, number = exit_of(started.program.exited.result())
    if (death := box.death) is not None:
        record.fail(death)
        return
    duration = record.seconds()
    record.finish(ProcessExit(exit_code=exit_code, signal=number, timed_out=timed_out, duration=duration))


class SpawnedProcesses:
    """All spawned processes of a box."""

    def __init__(self, box: Box) -> None:
        """Begin with none."""
        self._box = box
        self.book: SpawnBook[SpawnedProcess] = SpawnBook()

    async def spawn(
        self,
        command: str | Sequence[str],
        *,
        exec_id: str | None,
        stdin: bool,
        pty: TerminalSize | None,
        cwd: str | None,
        env: Mapping[str, str],
        timeout: float | None,
        max_output: int,
        tag: str | None,
    ) -> SpawnedProcess:
        """Start a process, or return the one with that id."""
        words = words_of(command)

        async def start(name: str) -> SpawnedProcess:
            record = SpawnRecord(name, words, max_output=max_output, tag=tag)
            started = start_recorded(self._box, record, words, cwd=cwd, env=env, stdin=stdin, size=pty, timeout=timeout)
            return SpawnedProcess(record, started, terminal=pty is not None)

        return await self.book.spawn(exec_id, start)
