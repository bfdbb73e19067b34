"""The named pipes through which a command inside gets its input and gives its output.

They lie in a folder that the sandbox sees read-only: it can open them, not replace them.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from tumbler_backends.sandbox.bubblewrap.processes.capture import Capture, Tap
from tumbler_backends.sandbox.posix.input import InputWriter

__all__ = ["InputPipe", "OutputPair", "OutputTaps"]


class OutputPair:
    """The pipes that one command writes its stdout and stderr to, read up to a limit.

    No two commands share a pipe as long as anybody may still write to it: that keeps a background
    child's late output out of later results. Those without writers stay for the next command,
    because making files is slow on file systems that are busy.
    """

    def __init__(self, folder: Path, number: int, limit: int) -> None:
        """Read up to `limit` bytes each of the pipes `<number>o` and `<number>e` in `folder`."""
        self._paths = _output_paths(folder, number)
        descriptors = _open_all(self._paths)
        self.stdout, self.stderr = (Capture(descriptor, limit) for descriptor in descriptors)

    @property
    def captures(self) -> tuple[Capture, ...]:
        """Return the streams that somebody may still write to."""
        return tuple(capture for capture in (self.stdout, self.stderr) if capture.open)

    def remove(self) -> None:
        """Remove the pipes from the folder; who has them open goes on."""
        for path in self._paths:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the pipes and stop reading."""
        self.remove()
        self.stdout.close()
        self.stderr.close()


class OutputTaps:
    """The pipes of a spawned process, all of whose output is handed on."""

    def __init__(
        self, folder: Path, number: int, stdout: Callable[[bytes], None], stderr: Callable[[bytes], None]
    ) -> None:
        """Read the pipes `<number>o` and `<number>e` in `folder`."""
        self._paths = _output_paths(folder, number)
        descriptors = _open_all(self._paths)
        self._taps = [Tap(descriptor, heard) for descriptor, heard in zip(descriptors, (stdout, stderr), strict=True)]

    def hide(self) -> None:
        """Remove the pipes from the folder: nobody else can write to them from now on. Safe to call twice."""
        for path in self._paths:
            path.unlink(missing_ok=True)

    def finish(self) -> None:
        """Hand on what has arrived, and stop reading."""
        self.hide()
        for tap in self._taps:
            tap.finish()

    def close(self) -> None:
        """Remove the pipes and stop reading."""
        self.hide()
        for tap in self._taps:
            tap.close()


class InputPipe:
    """The pipe that a command reads its stdin from; call `opened` once the command has it open."""

    def __init__(self, folder: Path, number: int) -> None:
        """Make the pipe `<number>i` in `folder`."""
        self._path = folder / f"{number}i"
        os.mkfifo(self._path, 0o600)
        # Without a reader a writer could not open it: this one stands in for the command.
        self._reader = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._opening: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.writer = InputWriter(os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))

    def opened(self) -> None:
        """Leave the reading to the command: once nobody does it, writers are told. Safe to call twice."""
        if self._reader >= 0:
            os.close(self._reader)
            self._reader = -1
            self._path.unlink(missing_ok=True)
        if not self._opening.done():
            self._opening.set_result(None)

    async def end(self) -> None:
        """Close it behind what is being written, but not before the command has it: it could never open it."""
        await asyncio.wait((self._opening,))
        await self.writer.drained()
        self.writer.close()

    def close(self) -> None:
        """Close it at once. Safe to call twice."""
        self.opened()
        self.writer.close()


def _output_paths(folder: Path, number: int) -> tuple[Path, Path]:
    return folder / f"{number}o", folder / f"{number}e"


def _open_all(paths: tuple[Path, Path]) -> tuple[int, int]:
    stdout = _open_pipe(paths[0])
    try:
        return stdout, _open_pipe(paths[1])
    except OSError:
        os.close(stdout)
        raise


def _open_pipe(path: Path) -> int:
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        os.mkfifo(path, 0o600)
        return os.open(path, flags)
