"""A shell session: commands in order, time-outs, restarts with the state carried over, and a say in what runs."""

import asyncio
import contextlib
import re
import signal
import time
from typing import Final

from tumbler.contracts.sandbox import ExecResult
from tumbler.errors import SandboxError, SessionEnded
from tumbler_backends.sandbox.docker.box import Box
from tumbler_backends.sandbox.docker.command import Output, kill_quietly, result_of
from tumbler_backends.sandbox.docker.launching import Ending
from tumbler_backends.sandbox.docker.shell import Answer, Shell
from tumbler_backends.sandbox.posix.input import InputWriter

__all__ = ["DockerSession"]

_DEATH_S: Final = 5.0
_START_S: Final = 0.002
_POLL_S: Final = 0.02


class DockerSession:
    """A bash that keeps its state between commands.

    After a time-out or a cancelled `run`, bash and all that it started are killed; the next command
    gets a new bash in the same working directory with the same exported variables. Functions, other
    variables and background processes do not survive that.
    """

    def __init__(self, box: Box, shell: Shell) -> None:
        """Take over a running shell."""
        self._box = box
        self._shell: Shell | None = shell
        self._turn = asyncio.Lock()
        self._last: Answer | None = None
        self._ended: SessionEnded | None = None
        self._busy = False
        self._talk: _Talk | None = None

    async def run(self, command: str, *, timeout: float = 60.0, max_output: int = 1 << 20) -> ExecResult:
        """Run one shell command, first come first served; see `tumbler.contracts.sandbox.Session.run`."""
        text = _encoded(command)
        async with self._turn:
            shell = await self._ready_shell()
            number = self._box.number()
            output = Output(await self._box.place.open_outputs(number), max_output)
            return await self._run(shell, text, number, output, timeout, "/dev/null")

    async def start(self, command: str, *, timeout: float = 60.0, max_output: int = 1 << 20) -> None:
        """Start a command whose stdin stays open, and return at once; `finish` waits for it."""
        text = _encoded(command)
        await self._turn.acquire()
        try:
            shell = await self._ready_shell()
            number = self._box.number()
            output = Output(await self._box.place.open_outputs(number), max_output)
            given = await self._box.place.make_input(number)
            running = asyncio.ensure_future(self._run(shell, text, number, output, timeout, given))
            try:
                self._talk = _Talk(running, output, await self._opened_input(number, running))
            except BaseException:
                running.cancel()
                raise
            running.add_done_callback(self._talk.end)
        except BaseException:
            self._turn.release()
            raise

    async def send(self, data: bytes) -> None:
        """Send bytes to the started command's stdin; raise `BrokenPipeError` when no command takes them."""
        if self._talk is None or self._talk.stdin is None:
            raise BrokenPipeError("no command takes input: begin one with start()")
        await self._talk.stdin.write(data)

    async def expect(self, pattern: bytes, *, timeout: float = 60.0) -> bytes:
        """Wait for `pattern` in the started command's stdout; see `InteractiveSession.expect`."""
        if self._talk is None:
            raise EOFError("no command was begun with start()")
        return await self._talk.expect(re.compile(pattern), timeout)

    async def interrupt(self) -> None:
        """Send SIGINT to the running command; the session and its state live on."""
        shell = self._shell
        if self._busy and shell is not None:
            await shell.started.signal(signal.SIGINT)

    async def finish(self) -> ExecResult:
        """End the started command's stdin, wait for it within its `timeout`, and return its result."""
        talk = self._talk
        if talk is None:
            raise RuntimeError("nothing to finish: begin a command with start()")
        try:
            if talk.stdin is not None:
                await talk.stdin.drained()
                talk.stdin.close()
            return await talk.running
        finally:
            if self._talk is talk:
                self._talk = None
                self._turn.release()

    async def close(self) -> None:
        """End the shell and all that it started."""
        self._ended = self._ended or SessionEnded("the session was closed")
        if self._talk is not None and self._talk.stdin is not None:
            self._talk.stdin.close()
        shell, self._shell = self._shell, None
        if shell is not None:
            with contextlib.suppress(SandboxError):
                await shell.started.kill()

    async def _opened_input(self, number: int, running: "asyncio.Future[ExecResult]") -> InputWriter | None:
        """Wait until the command takes input; None where it has ended before."""
        while not running.done():
            try:
                stdin = await self._box.place.open_input(number)
            except FileNotFoundError:
                return None
            if stdin is not None:
                return InputWriter(stdin)
            await asyncio.wait((running,), timeout=_START_S)
        return None

    async def _ready_shell(self) -> Shell:
        self._box.require()
        if self._ended is not None:
            raise SessionEnded(str(self._ended), self._ended.exit_status)
        return self._shell or await self._restart()

    async def _run(
        self, shell: Shell, command: bytes, number: int, output: Output, timeout: float, given: str
    ) -> ExecResult:
        began = time.perf_counter()
        answer: Answer | None = None
        self._busy = True
        try:
            async with asyncio.timeout(timeout):
                answer = await self._box.guarded(shell.run(command, number, given))
            if answer is None:
                raise await self._end(shell)
            self._last = answer
            ending = Ending(code=answer.status)
            return self._result(ending, output, timed_out=False, duration=time.perf_counter() - began)
        except TimeoutError:
            self._shell = None
            ending = await self._box.stop(shell.started)
            return self._result(ending, output, timed_out=True, duration=time.perf_counter() - began)
        finally:
            self._busy = False
            if answer is None:  # ended, timed out or cancelled: nothing of it may reach a later command
                self._shell = None
                await kill_quietly(shell.started)
            self._box.leave(output.readers)
            await self._box.place.close_outputs(number)

    def _result(self, ending: Ending, output: Output, *, timed_out: bool, duration: float) -> ExecResult:
        self._box.commands += 1
        return result_of(self._box, ending, output.finish(self._box), timed_out=timed_out, duration=duration)

    async def _end(self, shell: Shell) -> SessionEnded:
        ending = await self._box.ended(shell.started, _DEATH_S)
        await shell.started.kill()
        self._box.require()
        status = None if ending is None else ending.code
        cause = "out of memory" if self._box.ran_out_of_memory() else f"exit status {status}"
        self._ended = self._ended or SessionEnded(f"the session's shell has exited: {cause}", status)
        return self._ended

    async def _restart(self) -> Shell:
        """Start a new bash where the last finished command left off."""
        shell = self._shell = await Shell.start(self._box)
        if self._last is None:
            return shell
        number = self._box.number()
        output = Output(await self._box.place.open_outputs(number), 0)
        try:
            cwd = self._last.cwd.replace(b"'", b"'\\''")
            async with asyncio.timeout(self._box.spec.startup_timeout):
                await self._box.guarded(shell.run(self._last.exports + b"cd -- '" + cwd + b"'", number))
        finally:
            self._box.leave(output.readers)
            await self._box.place.close_outputs(number)
        return shell


class _Talk:
    """A started command: its input, and how much of its output was expected."""

    def __init__(self, running: "asyncio.Future[ExecResult]", output: Output, stdin: InputWriter | None) -> None:
        self.running = running
        self.stdin = stdin
        self._output = output
        self._seen = 0

    def end(self, _: "asyncio.Future[ExecResult]") -> None:
        """Take no more input."""
        if self.stdin is not None:
            self.stdin.close()
        if not self.running.cancelled():
            self.running.exception()  # `finish` may never be called

    async def expect(self, pattern: "re.Pattern[bytes]", timeout: float) -> bytes:
        deadline = time.monotonic() + timeout
        while True:
            over = self.running.done()
            unseen = self._output.kept[0].data[self._seen :]
            if (found := pattern.search(unseen)) is not None:
                self._seen += found.end()
                return unseen[: found.end()]
            if over:
                raise EOFError(f"the command ended, and {pattern.pattern!r} was not in its output")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{pattern.pattern!r} was not in the output within {timeout} s")
            await asyncio.wait((self.running,), timeout=_POLL_S)


def _encoded(command: str) -> bytes:
    if "\0" in command:
        raise ValueError("a shell command cannot hold a NUL")
    return command.encode(errors="surrogateescape")
