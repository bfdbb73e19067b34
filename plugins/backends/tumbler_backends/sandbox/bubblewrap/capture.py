"""Read a command's output in the event loop, keeping no more than a limit; knows no sandbox."""

import asyncio
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

__all__ = ["Capture", "OutputPair"]

_CHUNK: Final = 1 << 16
_FLOOD_PIPE: Final = 1 << 20
"""Pipe size once output is thrown away: fewer wake-ups for a flood."""
_FINAL_READS: Final = 2 * _FLOOD_PIPE // _CHUNK
"""Enough to empty the largest pipe, and a bound where a background child never stops writing."""


class Capture:
    """One stream of output: the first `limit` bytes are kept, the rest is read and dropped.

    Takes over `descriptor`, a non-blocking pipe end, and closes it once all writers are gone or by `close`.
    """

    def __init__(self, descriptor: int, limit: int, *, on_end: Callable[[], None] | None = None) -> None:
        """Start reading in the running loop; `on_end` is called once no writer is left."""
        self._loop = asyncio.get_running_loop()
        self._descriptor = descriptor
        self._limit = limit
        self._on_end = on_end
        self._data = bytearray()
        self._sink: int | None = None
        self._released = False
        self.truncated = False
        self._loop.add_reader(descriptor, self._read_once)

    @property
    def data(self) -> bytes:
        """Return what was kept so far."""
        return bytes(self._data)

    def finish(self) -> bytes:
        """Return what has arrived; what a left-over writer sends from now on is read and dropped."""
        for _ in range(_FINAL_READS):
            if not self._read_once():
                break
        kept = self.data
        self._data.clear()
        self._limit, self._released = 0, True
        return kept

    def close(self) -> None:
        """Stop reading; a writer that is left gets a broken pipe."""
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
        if self._sink is not None:
            os.close(self._sink)
            self._sink = None

    @property
    def open(self) -> bool:
        """Tell whether a writer may be left."""
        return self._descriptor >= 0

    def _read_once(self) -> bool:
        """Read or drop one piece; return whether there may be more at once."""
        if self._descriptor < 0:
            return False
        try:
            count = self._keep() if len(self._data) < self._limit else self._drop()
        except BlockingIOError:
            return False
        if count == 0:
            self.close()
            if self._on_end is not None:
                self._on_end()
        return count > 0

    def _keep(self) -> int:
        piece = os.read(self._descriptor, min(_CHUNK, self._limit - len(self._data)))
        self._data += piece
        return len(piece)

    def _drop(self) -> int:
        """Move output to /dev/null inside the kernel."""
        if self._sink is None:
            self._sink = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
            self._enlarge()
        count = self._splice()
        if count and not self._released:
            self.truncated = True
        return count

    def _enlarge(self) -> None:
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, _FLOOD_PIPE)
        except OSError:  # the user's pipe quota is used up: the flood is merely slower
            return

    def _splice(self) -> int:
        if self._sink is None:
            return 0
        return os.splice(self._descriptor, self._sink, _FLOOD_PIPE, flags=os.SPLICE_F_NONBLOCK)


class OutputPair:
    """The named pipes that one command writes its stdout and stderr to.

    No two commands share a pipe as long as anybody may still write to it: that keeps a background
    child's late output out of later results. The pipes lie in a folder that the sandbox sees
    read-only: it can open them, not replace them. Those without writers stay for the next command,
    because making files is slow on file systems that are busy.
    """

    def __init__(self, folder: Path, number: int, limit: int) -> None:
        """Read up to `limit` bytes each of the pipes `<number>o` and `<number>e` in `folder`."""
        self._paths = (folder / f"{number}o", folder / f"{number}e")
        stdout = _open_pipe(self._paths[0])
        try:
            stderr = _open_pipe(self._paths[1])
        except OSError:
            os.close(stdout)
            raise
        self._stdout, self._stderr = Capture(stdout, limit), Capture(stderr, limit)

    def finish(self) -> tuple[bytes, bytes, bool]:
        """Return stdout, stderr and whether either was cut."""
        stdout, stderr = self._stdout.finish(), self._stderr.finish()
        return stdout, stderr, self._stdout.truncated or self._stderr.truncated

    @property
    def captures(self) -> tuple[Capture, ...]:
        """Return the streams that somebody may still write to."""
        return tuple(capture for capture in (self._stdout, self._stderr) if capture.open)

    def remove(self) -> None:
        """Remove the pipes from the folder; who has them open goes on."""
        for path in self._paths:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the pipes and stop reading."""
        self.remove()
        self._stdout.close()
        self._stderr.close()


def _open_pipe(path: Path) -> int:
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        os.mkfifo(path, 0o600)
        return os.open(path, flags)
