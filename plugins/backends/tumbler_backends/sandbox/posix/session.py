"""A shell session in a cloud's sandbox: commands in order, time-outs, restarts, dialogues; knows no cloud."""

import asyncio
import contextlib
import re
import secrets
import signal
import time
from typing import Final

from tumbler.contracts.sandbox import ExecResult
from tumbler.errors import SandboxError, SessionEnded
from tumbler_backends.sandbox.posix.channel import Channel
from tumbler_backends.sandbox.posix.command import signal_of
from tumbler_backends.sandbox.posix.launched import LaunchedProcess
from tumbler_backends.sandbox.posix.shell import Answer, Shell
from tumbler_backends.sandbox.posix.spawner import Spawner

__all__ = ["ProcessSession"]

_FREE_S: Final = 0.2
"""How long a command waits for the channel of the one before; a background child that holds it costs this once."""
_REST_S: Final = 2.0
"""How long the output of a shell that ended may take to arrive."""
_KILLED: Final = 137
_FEED: Final = 'mkdir -p -m 700 "${1%/*}"; mkfifo "$1" 2>/dev/null; exec cat >"$1"'


class ProcessSession:
    """A bash that keeps its state between commands; keeps `Session` and `InteractiveSession`.

    After a time-out or a cancelled `run`, bash and all that it started are killed; the next command gets a new bash in
    the same working directory with the same exported variables. Functions, other variables and background processes do
    not survive that. An interrupt reaches the programs that a command runs, not bash's own loops and builtins.
    """

    def __init__(self, spawner: Spawner) -> None:
        """Start nothing yet."""
        self._spawner = spawner
        self._folder = f"{spawner.temporary}/.tumbler-{secrets.token_hex(8)}"
        self._shell: Shell | None = None
        self._channel: Channel | None = None
        self._retired: list[Channel] = []
        self._numbers = 0
        self._turn = asyncio.Lock()
        self._last: Answer | None = None
        self._ended: SessionEnded | None = None
        self._running = False
        self._started: asyncio.Task[ExecResult] | None = None
        self._feeder: LaunchedProcess | None = None
        self._expected = 0

    @classmethod
    async def open(cls, spawner: Spawner) -> "ProcessSession":
        """Start a session."""
        session = cls(spawner)
        await session._restart()
        return session

    async def run(self, command: str, *, timeout: float = 60.0, max_output: int = 1 << 20) -> ExecResult:
        """Run one shell command, first come first served; see `tumbler.contracts.sandbox.Session.run`."""
        text = _text_of(command)
        async with self._turn:
            shell, channel = await self._ready(max_output)
            return await self._command(shell, channel, text, timeout)

    async def start(self, command: str, *, timeout: float = 60.0, max_output: int = 1 << 20) -> None:
        """Start a command whose stdin stays open, and return at once; `finish` waits for it."""
        text = _text_of(command)
        await self._turn.acquire()
        try:
            shell, channel = await self._ready(max_output)
            given = f"{self._folder}/{channel.number}i"
            feeder = await self._spawner.launch(["/bin/sh", "-c", _FEED, "sh", given], stdin=True)
        except BaseException:
            self._turn.release()
            raise
        self._feeder, self._expected = feeder, 0
        self._started = asyncio.get_running_loop().create_task(
            self._dialogue(shell, channel, text, timeout, given, feeder)
        )
        self._started.add_done_callback(_retrieve)

    async def send(self, data: bytes) -> None:
        """Send bytes to the started command's stdin; raises `BrokenPipeError` when no command takes them."""
        feeder = self._feeder
        if feeder is None:
            raise BrokenPipeError("no command of this session takes input: begin one with `start`")
        await feeder.write_stdin(data)

    async def expect(self, pattern: bytes, *, timeout: float = 60.0) -> bytes:
        """Wait until `pattern` occurs in the started command's stdout, and return the output up to its end."""
        if self._started is None or self._channel is None:
            raise EOFError("no command of this session was begun with `start`")
        channel = self._channel
        compiled = re.compile(pattern)
        async with asyncio.timeout(timeout):
            while True:
                data = channel.stdout.data
                if found := compiled.search(data, self._expected):
                    begin, self._expected = self._expected, found.end()
                    return data[begin : found.end()]
                if channel.ended or self._started.done():
                    raise EOFError(f"the command ended before {pattern!r} came; it said {data[self._expected :]!r}")
                await channel.news()

    async def interrupt(self) -> None:
        """Send SIGINT to the running command; the session and its state live on."""
        if self._running and self._shell is not None:
            await self._shell.process.signal(signal.SIGINT)

    async def finish(self) -> ExecResult:
        """End the started command's stdin, wait for it within its time-out, and return its result."""
        started, feeder = self._started, self._feeder
        if started is None:
            raise ValueError("no command of this session was begun with `start`")
        if feeder is not None:
            with contextlib.suppress(BrokenPipeError):
                await feeder.close_stdin()
        return await asyncio.shield(started)

    async def close(self) -> None:
        """End the shell and all that it started."""
        self._ended = self._ended or SessionEnded("the session was closed")
        with contextlib.suppress(SandboxError):  # what is gone needs no end
            await self._drop(0.0)
            await self._spawner.settled(["rm", "-rf", "--", self._folder])

    async def _ready(self, max_output: int) -> tuple[Shell, Channel]:
        """Return a shell, and a channel that nobody else speaks through."""
        self._spawner.cloud.require()
        if self._ended is not None:
            raise SessionEnded(str(self._ended), self._ended.exit_status)
        if self._shell is None:
            await self._restart()
        if self._channel is not None and not await self._channel.free(_FREE_S):
            self._retired.append(self._channel)
            self._channel = None
        channel = self._channel or await self._open_channel()
        channel.begin(max_output)
        if self._shell is None:
            raise SessionEnded("the session was closed")
        return self._shell, channel

    async def _command(
        self, shell: Shell, channel: Channel, text: bytes, timeout: float, given: str = "/dev/null"
    ) -> ExecResult:
        began = time.perf_counter()
        self._running = True
        try:
            async with asyncio.timeout(timeout):
                answer = await shell.run(text, channel, given)
                if answer is not None:
                    await channel.complete()
        except TimeoutError:
            exit_code = await self._stop(shell, channel)
            return _result(channel, exit_code, timed_out=True, duration=time.perf_counter() - began)
        except BaseException:
            await self._drop(0.0)
            raise
        finally:
            self._running = False
        result = _result(channel, answer.status if answer else 0, timed_out=False, duration=time.perf_counter() - began)
        if answer is None:
            raise await self._end(shell, channel, result)
        self._last = answer
        return result

    async def _dialogue(
        self, shell: Shell, channel: Channel, text: bytes, timeout: float, given: str, feeder: LaunchedProcess
    ) -> ExecResult:
        try:
            return await self._command(shell, channel, text, timeout, given)
        finally:
            self._feeder = None
            self._turn.release()
            with contextlib.suppress(SandboxError):
                await feeder.kill_tree(0.0)
                await feeder.abandon()

    async def _stop(self, shell: Shell, channel: Channel) -> int:
        """End a shell whose command ran past its time; return its exit code."""
        await shell.close(self._spawner.grace)
        await channel.free(_REST_S)
        await self._drop(0.0)
        return (await shell.ended()).exit_code or _KILLED

    async def _end(self, shell: Shell, channel: Channel, result: ExecResult) -> SessionEnded:
        """Return what to raise where bash itself has ended."""
        ended = await shell.ended()
        await channel.free(_REST_S)
        partial = _result(channel, ended.exit_code, timed_out=False, duration=result.duration)
        self._ended = self._ended or SessionEnded(
            f"the session's shell has exited with status {ended.exit_code}", ended.exit_code, partial
        )
        await self._drop(0.0)
        return self._ended

    async def _restart(self) -> None:
        """Start a new bash where the last finished command left off."""
        shell, channel = await asyncio.gather(Shell.start(self._spawner, self._folder), self._open_channel())
        self._shell = shell
        channel.begin(0)
        restore = b":"
        if self._last is not None:
            cwd = self._last.cwd.replace(b"'", b"'\\''")
            restore = self._last.exports + b"cd -- '" + cwd + b"'"
        async with asyncio.timeout(_RESTART_S):
            if await shell.run(restore, channel) is None:
                self._shell = None
                ended = await shell.ended()
                raise SandboxError(f"bash ended at its start, with exit code {ended.exit_code}: is it installed?")

    async def _open_channel(self) -> Channel:
        self._numbers += 1
        self._channel = await Channel.open(self._spawner, self._folder, self._numbers)
        return self._channel

    async def _drop(self, grace: float) -> None:
        """End the shell, its channels and all that they started."""
        shell, self._shell = self._shell, None
        channels = [*self._retired, *((self._channel,) if self._channel is not None else ())]
        self._channel, self._retired = None, []
        ends = [*((shell.close(grace),) if shell is not None else ()), *(channel.close() for channel in channels)]
        outcomes = await asyncio.gather(*ends, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, SandboxError):
                raise outcome


_RESTART_S: Final = 60.0


def _text_of(command: str) -> bytes:
    if "\0" in command:
        raise ValueError("a shell command cannot hold a NUL")
    return command.encode(errors="surrogateescape")


def _result(channel: Channel, exit_code: int, *, timed_out: bool, duration: float) -> ExecResult:
    stdout, stderr = channel.stdout, channel.stderr
    return ExecResult(
        exit_code=exit_code,
        stdout=stdout.data,
        stderr=stderr.data,
        duration=duration,
        timed_out=timed_out,
        truncated=bool(stdout.dropped or stderr.dropped),
        signal=signal_of(exit_code),
        stdout_dropped=stdout.dropped,
        stderr_dropped=stderr.dropped,
    )


def _retrieve(task: "asyncio.Task[ExecResult]") -> None:
    """Spare the warning about a started command that nobody finished."""
    if not task.cancelled():
        task.exception()
