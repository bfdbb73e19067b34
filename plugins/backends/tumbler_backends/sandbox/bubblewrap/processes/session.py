"""A shell session: commands in order, time-outs, restarts with the state carried over."""

import asyncio
import time

from tumbler.contracts.sandbox import ExecResult
from tumbler.errors import SessionEnded
from tumbler_backends.sandbox.bubblewrap.box import Box
from tumbler_backends.sandbox.bubblewrap.processes.command import require_unstruck, result_of
from tumbler_backends.sandbox.bubblewrap.processes.dialogue import Dialogue
from tumbler_backends.sandbox.bubblewrap.processes.pipes import InputPipe, OutputPair
from tumbler_backends.sandbox.bubblewrap.processes.shell import Answer, Shell

__all__ = ["BubblewrapSession"]


class BubblewrapSession:
    """A bash that keeps its state between commands.

    After a time-out or a cancelled `run`, bash and all that it started are killed; the next command
    gets a new bash in the same working directory with the same exported variables. Functions, other
    variables and background processes do not survive that. An interrupted command takes nothing along.
    """

    def __init__(self, box: Box, shell: Shell) -> None:
        """Take over a running shell."""
        self._box = box
        self._shell: Shell | None = shell
        self._turn = asyncio.Lock()
        self._last: Answer | None = None
        self._dialogue: Dialogue | None = None
        self._interrupted = False
        self._ended: SessionEnded | None = None

    async def run(self, command: str, *, timeout: float = 60.0, max_output: int = 1 << 20) -> ExecResult:
        """Run one shell command, first come first served; see `tumbler.contracts.sandbox.Session.run`."""
        text = _encoded(command)
        async with self._turn:
            shell = await self._usable()
            with self._box.output(max_output) as (number, output):
                return await self._run(shell, number, text, timeout, output)

    async def start(self, command: str, *, timeout: float = 60.0, max_output: int = 1 << 20) -> None:
        """Start a command whose stdin stays open; its turn lasts until it ends, `finish` or not."""
        text = _encoded(command)
        await self._turn.acquire()
        try:
            shell = await self._usable()
            dialogue = Dialogue(self._box, max_output)
        except BaseException:
            self._turn.release()
            raise

        async def converse() -> ExecResult:
            try:
                with dialogue.connected() as (number, output, stdin):
                    return await self._run(shell, number, text, timeout, output, stdin)
            finally:
                self._turn.release()

        dialogue.begin(converse())
        self._dialogue = dialogue

    async def send(self, data: bytes) -> None:
        """Send bytes to the started command's stdin."""
        if self._dialogue is None:
            raise BrokenPipeError("no command takes input: start one with `start`")
        await self._dialogue.send(data)

    async def expect(self, pattern: bytes, *, timeout: float = 60.0) -> bytes:
        """Wait until `pattern` occurs in the started command's stdout; return the output up to its end."""
        return await self._started().expect(pattern, timeout)

    async def interrupt(self) -> None:
        """Send SIGINT to the running command; the session and its state live on."""
        if self._turn.locked() and self._shell is not None:
            self._interrupted = True
            self._shell.interrupt()

    async def finish(self) -> ExecResult:
        """End the started command's stdin, wait for it, and return its result."""
        return await self._started().finish()

    async def close(self) -> None:
        """End the shell and all that it started."""
        self._ended = self._ended or SessionEnded("the session was closed")
        shell, self._shell = self._shell, None
        if shell is not None:
            await shell.process.killed()
        if self._dialogue is not None:
            await self._dialogue.over()

    def _started(self) -> Dialogue:
        if self._dialogue is None:
            raise ProcessLookupError("no command was started in this session: call `start` first")
        return self._dialogue

    async def _usable(self) -> Shell:
        self._box.require()
        if self._ended is not None:
            raise SessionEnded(str(self._ended), self._ended.exit_status)
        self._interrupted = False
        return self._shell or await self._restart()

    async def _run(
        self,
        shell: Shell,
        number: int,
        command: bytes,
        timeout: float,
        output: OutputPair,
        stdin: InputPipe | None = None,
    ) -> ExecResult:
        began = time.perf_counter()
        kills = self._box.out_of_memory_kills()
        answer, timed_out = await self._answer(shell, number, command, timeout, stdin)
        self._box.host.metrics.session_commands += 1
        result = result_of(
            self._box,
            answer.status if answer is not None else shell.process.exited.result(),
            output,
            timed_out=timed_out,
            duration=time.perf_counter() - began,
            kills_before=kills,
        )
        if answer is None and not timed_out and not self._interrupted:
            raise self._end(result)
        self._last = answer or self._last
        return result

    async def _answer(
        self, shell: Shell, number: int, command: bytes, timeout: float, stdin: InputPipe | None
    ) -> tuple[Answer | None, bool]:
        """Return bash's answer, and whether it took too long; without an answer bash is dead, and so is all below."""
        answer: Answer | None = None
        timed_out = False
        try:
            waiting = shell.run(command, number, None if stdin is None else stdin.opened)
            timed_out = not await self._box.clock.within(waiting, timeout)
            if timed_out:
                await shell.process.stop(self._box.host.settings.grace)
            else:
                answer = waiting.result()
        finally:
            if answer is None:  # ended, timed out or cancelled: nothing of it may reach a later command
                self._shell = None
                shell.process.kill()
        if answer is None:
            await shell.process.killed()
            require_unstruck(self._box, shell.process)
        return answer, timed_out

    def _end(self, partial: ExecResult) -> SessionEnded:
        cause = "out of memory" if partial.oom else f"exit status {partial.exit_code}"
        status = partial.exit_code
        self._ended = self._ended or SessionEnded(f"the session's shell has exited: {cause}", status, partial)
        return self._ended

    async def _restart(self) -> Shell:
        """Start a new bash where the last finished command left off."""
        shell = await Shell.start(self._box)
        self._shell = shell
        self._box.host.metrics.session_restarts += 1
        if self._last is not None:
            with self._box.output(0) as (number, output):
                cwd = self._last.cwd.replace(b"'", b"'\\''")
                restored = shell.run(self._last.exports + b"cd -- '" + cwd + b"'", number)
                await self._box.clock.within(restored, self._box.spec.startup_timeout)
                output.stdout.finish()
                output.stderr.finish()
        return shell


def _encoded(command: str) -> bytes:
    if "\0" in command:
        raise ValueError("a shell command cannot hold a NUL")
    return command.encode(errors="surrogateescape")
