"""A shell session: commands in order, time-outs, restarts with the state carried over."""

import asyncio
import time

from tumbler.contracts.sandbox import ExecResult
from tumbler.errors import SessionEnded
from tumbler_backends.sandbox.bubblewrap.box import Box
from tumbler_backends.sandbox.bubblewrap.capture import OutputPair
from tumbler_backends.sandbox.bubblewrap.command import result_of, stop
from tumbler_backends.sandbox.bubblewrap.shell import Answer, Shell

__all__ = ["BubblewrapSession"]


class BubblewrapSession:
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

    async def run(self, command: str, *, timeout: float = 60.0, max_output: int = 1 << 20) -> ExecResult:
        """Run one shell command, first come first served; see `tumbler.contracts.sandbox.Session.run`."""
        if "\0" in command:
            raise ValueError("a shell command cannot hold a NUL")
        async with self._turn:
            self._box.require()
            if self._ended is not None:
                raise SessionEnded(str(self._ended), self._ended.exit_status)
            shell = self._shell or await self._restart()
            with self._box.output(max_output) as (number, output):
                return await self._run(shell, number, command.encode(errors="surrogateescape"), timeout, output)

    async def close(self) -> None:
        """End the shell and all that it started."""
        self._ended = self._ended or SessionEnded("the session was closed")
        shell, self._shell = self._shell, None
        if shell is not None:
            await shell.process.killed()

    async def _run(self, shell: Shell, number: int, command: bytes, timeout: float, output: OutputPair) -> ExecResult:
        began = time.perf_counter()
        answer: Answer | None = None
        try:
            async with asyncio.timeout(timeout):
                answer = await shell.run(command, number)
        except TimeoutError:
            self._shell = None
            await stop(shell.process, self._box.host.settings.grace)
            exit_code = shell.process.exited.result()
            return self._result(exit_code, output, timed_out=True, duration=time.perf_counter() - began)
        finally:
            if answer is None:  # ended, timed out or cancelled: nothing of it may reach a later command
                self._shell = None
                shell.process.kill()
        if answer is None:
            raise await self._end(shell)
        self._last = answer
        return self._result(answer.status, output, timed_out=False, duration=time.perf_counter() - began)

    def _result(self, exit_code: int, output: OutputPair, *, timed_out: bool, duration: float) -> ExecResult:
        self._box.host.metrics.session_commands += 1
        return result_of(self._box, exit_code, output, timed_out=timed_out, duration=duration)

    async def _end(self, shell: Shell) -> SessionEnded:
        await shell.process.killed()
        self._box.require()
        status = shell.process.exited.result()
        cause = "out of memory" if self._box.ran_out_of_memory() else f"exit status {status}"
        self._ended = self._ended or SessionEnded(f"the session's shell has exited: {cause}", status)
        return self._ended

    async def _restart(self) -> Shell:
        """Start a new bash where the last finished command left off."""
        shell = await Shell.start(self._box)
        self._shell = shell
        self._box.host.metrics.session_restarts += 1
        if self._last is not None:
            with self._box.output(0) as (number, output):
                cwd = self._last.cwd.replace(b"'", b"'\\''")
                await shell.run(self._last.exports + b"cd -- '" + cwd + b"'", number)
                output.finish()
        return shell
