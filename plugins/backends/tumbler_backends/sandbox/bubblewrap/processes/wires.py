"""What connects a spawned process to its host: pipes, or a terminal."""

import os
from typing import Final, Protocol

from tumbler.contracts.sandbox_process import TerminalSize
from tumbler.errors import CapabilityError
from tumbler_backends.sandbox.bubblewrap.box import Box
from tumbler_backends.sandbox.bubblewrap.filesystem.layout import CONTROL_FOLDER
from tumbler_backends.sandbox.bubblewrap.processes.capture import Tap
from tumbler_backends.sandbox.bubblewrap.processes.pipes import InputPipe, OutputTaps
from tumbler_backends.sandbox.bubblewrap.processes.process import BubblewrapProcess
from tumbler_backends.sandbox.bubblewrap.processes.terminal import open_terminal, resize_terminal
from tumbler_backends.sandbox.posix.input import InputWriter
from tumbler_backends.sandbox.posix.spawning import SpawnRecord

__all__ = ["PipeWires", "TerminalWires", "Wires"]

_END_OF_INPUT: Final = b"\x04"


class Wires(Protocol):
    """Standard input and output of one process."""

    @property
    def redirections(self) -> str:
        """Return what a shell inside makes of them."""
        ...

    async def start(self, box: Box, env: dict[str, str]) -> BubblewrapProcess:
        """Start a runner for them."""
        ...

    def opened(self) -> None:
        """Take note that the process has them."""
        ...

    async def write(self, data: bytes) -> None:
        """Send bytes to the process."""
        ...

    async def end_input(self) -> None:
        """End the input behind all that was written."""
        ...

    def resize(self, size: TerminalSize) -> None:
        """Set the terminal's size."""
        ...

    def finish(self) -> None:
        """Hand on the last output, and close. Safe to call twice."""
        ...


class PipeWires:
    """Named pipes, with the streams apart."""

    def __init__(self, box: Box, record: SpawnRecord, *, stdin: bool) -> None:
        """Make the pipes; without `stdin` the input is at its end."""
        control, self._number = box.layout.control, box.number()
        self._output = OutputTaps(control, self._number, record.stdout.feed, record.stderr.feed)
        self._input = InputPipe(control, self._number) if stdin else None

    @property
    def redirections(self) -> str:
        """Return what a shell inside makes of them."""
        base = f"{CONTROL_FOLDER}/{self._number}"
        return f"<{f'{base}i' if self._input is not None else '/dev/null'} >{base}o 2>{base}e"

    async def start(self, box: Box, env: dict[str, str]) -> BubblewrapProcess:
        """Start a runner for them."""
        return await box.start(env)

    def opened(self) -> None:
        """Remove the pipes' names: only the process has them from now on."""
        self._output.hide()
        if self._input is not None:
            self._input.opened()

    async def write(self, data: bytes) -> None:
        """Send bytes to the process."""
        if self._input is None:
            raise BrokenPipeError("the process was spawned without stdin")
        await self._input.writer.write(data)

    async def end_input(self) -> None:
        """End the input behind all that was written."""
        if self._input is not None:
            await self._input.end()

    def resize(self, size: TerminalSize) -> None:
        """Refuse: there is no terminal."""
        raise CapabilityError("the process has no terminal: spawn it with `pty` to give it a size")

    def finish(self) -> None:
        """Hand on the last output, and close."""
        self._output.finish()
        if self._input is not None:
            self._input.close()


class TerminalWires:
    """A terminal of the sandbox's own, with both streams on `stdout`."""

    def __init__(self, record: SpawnRecord, size: TerminalSize) -> None:
        """Plan it; `start` makes it."""
        self._record = record
        self._size = size
        self._output: Tap | None = None
        self._input: InputWriter | None = None
        self._master = -1

    @property
    def redirections(self) -> str:
        """Return what a shell inside makes of it."""
        return "<&1 2>&1"

    async def start(self, box: Box, env: dict[str, str]) -> BubblewrapProcess:
        """Start a runner for it."""
        return await box.start({"TERM": "xterm-256color", **env}, self._open)

    def opened(self) -> None:
        """Do nothing: the terminal has no name that anybody else could use."""

    async def write(self, data: bytes) -> None:
        """Type."""
        if self._input is None:
            raise BrokenPipeError("the terminal is closed")
        await self._input.write(data)

    async def end_input(self) -> None:
        """Type the end of input."""
        if self._input is not None and not self._input.closed:
            await self._input.write(_END_OF_INPUT)

    def resize(self, size: TerminalSize) -> None:
        """Set the terminal's size; does nothing once it is closed."""
        if self._master >= 0:
            resize_terminal(self._master, size)

    def finish(self) -> None:
        """Hand on the last output, and close."""
        if self._output is not None:
            self._output.finish()
        if self._input is not None:
            self._input.close()
        self._master = -1

    def _open(self, pid: int) -> bytes:
        self._master, number = open_terminal(pid, self._size)
        # Reading and writing are watched apart, which takes a descriptor each.
        self._input = InputWriter(os.dup(self._master))
        self._output = Tap(self._master, self._record.stdout.feed)
        return b"%d\n" % number
