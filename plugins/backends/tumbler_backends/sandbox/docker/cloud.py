"""Start processes in a container through its engine: hijacked streams, for engines that are not on this machine."""

import asyncio
import contextlib
import errno
import os
from collections.abc import Mapping, Sequence
from typing import Final

import aiodocker
import aiohttp
from aiodocker.execs import Exec
from aiodocker.stream import Stream

from tumbler.contracts.sandbox_process import ProcessExit
from tumbler.errors import SandboxDied, SandboxError, SandboxUnavailable
from tumbler_backends.sandbox.docker.engine import Engine
from tumbler_backends.sandbox.docker.life import Life
from tumbler_backends.sandbox.posix.spawning import SpawnRecord

__all__ = ["DockerCloud"]

_STDERR: Final = 2
_STARTING_S: Final = 0.01
_FIRST_LOOK_S: Final = 0.05
_LAST_LOOK_S: Final = 1.0
_REST_S: Final = 0.3
"""How long output may take to arrive after the end of a process whose children hold the streams open."""
_WORD_BYTES: Final = 128 << 10
"""The kernel's limit for one argument."""
_PIECE: Final = 1 << 18
_SIGNALS: Final = range(129, 193)


class DockerCloud:
    """One container, as `tumbler_backends.sandbox.posix` needs it."""

    def __init__(self, engine: Engine, container: str, life: Life, user: str, environment: Mapping[str, str]) -> None:
        """Start processes as `user`, with `environment`."""
        self._engine = engine
        self._container = engine.client.containers.container(container)
        self._life = life
        self._user = user
        self._environment = dict(environment)
        self._running: set[_ExecProcess] = set()

    @property
    def workdir(self) -> str:
        """Return the absolute working directory that every process starts in."""
        return self._life.workdir

    @property
    def busy(self) -> bool:
        """Tell whether a process runs."""
        return bool(self._running)

    def require(self) -> None:
        """Raise why the sandbox cannot be used."""
        self._life.require()

    async def start(
        self, words: Sequence[str], *, env: Mapping[str, str], stdin: bool, record: SpawnRecord
    ) -> "_ExecProcess":
        """Start a program; see `tumbler_backends.sandbox.posix.cloud.Cloud.start`."""
        if max(len(os.fsencode(word)) for word in words) >= _WORD_BYTES:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        return await self._life.guarded(self._start(words, env, stdin, record))

    async def _start(
        self, words: Sequence[str], env: Mapping[str, str], stdin: bool, record: SpawnRecord
    ) -> "_ExecProcess":
        request = self._container.exec(
            list(words), stdin=stdin, user=self._user, environment={**self._environment, **env}, workdir="/"
        )
        try:
            made = await self._engine.ask(request, "starting a command")
            stream = made.start(detach=False)
            try:
                await self._engine.ask(stream.__aenter__(), "starting a command")
                await self._engine.ask(_until_started(made), "starting a command")
            except BaseException:
                await asyncio.shield(stream.close())
                raise
        except aiodocker.DockerError as error:
            raise SandboxDied(f"sandbox {self._life.id} takes no commands: {error.message}", "killed") from error
        process = _ExecProcess(self._engine, made, stream, record, self._life)
        self._running.add(process)
        process.reading.add_done_callback(lambda _: self._running.discard(process))
        return process


async def _until_started(made: Exec) -> None:
    """Wait until there is a process: the engine answers before, and a signal would find nothing."""
    while True:
        shown = await made.inspect()
        if shown["Pid"] or shown["ExitCode"] is not None:
            return
        await asyncio.sleep(_STARTING_S)


class _ExecProcess:
    """One process that the engine has started."""

    def __init__(self, engine: Engine, made: Exec, stream: Stream, record: SpawnRecord, life: Life) -> None:
        self._engine = engine
        self._exec = made
        self._stream = stream
        self._record = record
        self._life = life
        self.reading = asyncio.get_running_loop().create_task(self._watch())

    @property
    def pid(self) -> int | None:
        """Return no process id: the engine tells one of another machine."""
        return None

    async def write(self, data: bytes) -> None:
        """Send bytes to stdin."""
        try:
            for start in range(0, len(data), _PIECE):
                await self._stream.write_in(data[start : start + _PIECE])
        except (OSError, RuntimeError, AssertionError) as error:  # aiodocker's ways to say that the stream is closed
            raise BrokenPipeError(f"the process {self._record.exec_id!r} takes no more input") from error

    async def close_stdin(self) -> None:
        """End stdin, and go on reading: the stream's own `close` would end both."""
        response = self._stream._resp
        transport = response.connection.transport if response is not None and response.connection is not None else None
        if transport is not None and transport.can_write_eof():
            transport.write_eof()

    async def abandon(self) -> None:
        """Stop reading."""
        self.reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.reading

    async def _watch(self) -> None:
        """Take the output in, and record the end."""
        try:
            self._record.finish(await self._life.guarded(self._finished()))
        except SandboxError as error:
            self._record.fail(error)
        finally:
            with contextlib.suppress(AssertionError, OSError):  # closed by the engine already
                await self._stream.close()

    async def _finished(self) -> ProcessExit:
        reading = asyncio.ensure_future(self._read())
        try:
            wait = _FIRST_LOOK_S
            while True:
                await asyncio.wait((reading,), timeout=wait)
                shown = await self._engine.ask(self._exec.inspect(), "watching a command")
                if not shown["Running"]:
                    break
                wait = min(_LAST_LOOK_S, 2 * wait) if not reading.done() else _FIRST_LOOK_S
                if reading.done():
                    await asyncio.sleep(wait)
            await asyncio.wait((reading,), timeout=_REST_S)
        except aiodocker.DockerError as error:
            raise SandboxUnavailable(f"the engine has lost a command: {error.message}") from error
        finally:
            reading.cancel()
        code = int(shown["ExitCode"] or 0)
        return ProcessExit(exit_code=code, signal=code - 128 if code in _SIGNALS else None)

    async def _read(self) -> None:
        with contextlib.suppress(OSError, aiohttp.ClientError):  # the end is learnt by asking
            while (message := await self._stream.read_out()) is not None:
                ring = self._record.stderr if message.stream == _STDERR else self._record.stdout
                ring.feed(message.data)
