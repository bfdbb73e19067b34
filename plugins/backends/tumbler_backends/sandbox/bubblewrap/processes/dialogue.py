"""A conversation with one started command of a session; knows no shell."""

import asyncio
import contextlib
import re
from collections.abc import Coroutine, Iterator

from tumbler.contracts.sandbox import ExecResult
from tumbler_backends.sandbox.bubblewrap.box import Box
from tumbler_backends.sandbox.bubblewrap.processes.pipes import InputPipe, OutputPair
from tumbler_backends.sandbox.posix.output import OutputRing

__all__ = ["Dialogue"]


class Dialogue:
    """What a started command is told, and what it has said."""

    def __init__(self, box: Box, max_output: int) -> None:
        """Make its pipes; up to `max_output` bytes of each stream are kept for the result.

        `expect` looks at the last `max_output` bytes of stdout.
        """
        self._resources = contextlib.ExitStack()
        with contextlib.ExitStack() as making:
            self._number, self._output = making.enter_context(box.output(max_output))
            self._stdin = InputPipe(box.layout.control, self._number)
            making.callback(self._stdin.close)
            self._resources = making.pop_all()
        self._said = OutputRing(max_output)
        self._output.stdout.listen(self._said.feed)
        self._expected = 0
        self._result: asyncio.Task[ExecResult] | None = None

    @contextlib.contextmanager
    def connected(self) -> Iterator[tuple[int, OutputPair, InputPipe]]:
        """Lend the number of the pipes, the output and the input; all ends with the block."""
        try:
            with self._resources:
                yield self._number, self._output, self._stdin
        finally:
            self._said.end()

    def begin(self, running: Coroutine[None, None, ExecResult]) -> None:
        """Run the command; `running` uses `connected`."""
        self._result = asyncio.get_running_loop().create_task(running)
        self._result.add_done_callback(_retrieve)

    async def send(self, data: bytes) -> None:
        """Send bytes to its stdin."""
        await self._stdin.writer.write(data)

    async def expect(self, pattern: bytes, timeout: float) -> bytes:
        """Wait until the regular expression occurs in what no earlier call returned; return all up to its end."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        compiled = re.compile(pattern)
        while True:
            begin = max(self._expected, self._said.start)
            said = self._said.since(begin)
            if (found := compiled.search(said)) is not None:
                self._expected = begin + found.end()
                return said[: found.end()]
            if self._said.ended:
                raise EOFError(f"the command ended before {pattern!r} came; it said {said[-200:]!r}")
            if not await self._said.changed(deadline - loop.time()):
                raise TimeoutError(f"{pattern!r} did not come within {timeout} s; there is {said[-200:]!r}")

    async def finish(self) -> ExecResult:
        """End the command's stdin behind what was sent, and return its result."""
        if self._result is None:
            raise ProcessLookupError("the command was never begun")
        with contextlib.suppress(BrokenPipeError, TimeoutError):
            await self._stdin.end()
        return await asyncio.shield(self._result)

    async def over(self) -> None:
        """Wait until the command is over, however it ends."""
        if self._result is not None:
            await asyncio.wait((self._result,))


def _retrieve(task: "asyncio.Task[ExecResult]") -> None:
    """Spare the warning about an error that nobody asked for."""
    if not task.cancelled():
        task.exception()
