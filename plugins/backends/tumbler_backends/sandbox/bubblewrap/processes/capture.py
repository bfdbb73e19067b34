"""Read output in the event loop as it comes, keeping no more than a limit; knows no sandbox."""

import asyncio
import errno
import fcntl
import os
from collections.abc import Callable, Sequence
from typing import Final

__all__ = ["Capture", "LeftOver", "Tap"]

_CHUNK: Final = 1 << 16
_FLOOD_PIPE: Final = 1 << 20
"""Pipe size once output is thrown away: fewer wake-ups for a flood."""
_MOST_LEFT_OVER: Final = 64
"""Each takes a descriptor of this process."""
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
        self._listener: Callable[[bytes], None] | None = None
        self.dropped = 0
        """How many bytes past the limit were thrown away."""
        self._loop.add_reader(descriptor, self._read_once)

    @property
    def data(self) -> bytes:
        """Return what was kept so far."""
        return bytes(self._data)

    def listen(self, heard: Callable[[bytes], None]) -> None:
        """Call `heard` with each piece that comes, kept or dropped, until `finish`."""
        self._listener = heard

    def finish(self) -> bytes:
        """Return what has arrived; what a left-over writer sends from now on is read and dropped."""
        for _ in range(_FINAL_READS):
            if not self._read_once():
                break
        kept = self.data
        self._data.clear()
        self._limit, self._released, self._listener = 0, True, None
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
            count = self._take()
        except BlockingIOError:
            return False
        if count == 0:
            self.close()
            if self._on_end is not None:
                self._on_end()
        return count > 0

    def _take(self) -> int:
        if self._listener is not None:
            return self._share(self._listener)
        return self._keep() if len(self._data) < self._limit else self._drop()

    def _share(self, listener: Callable[[bytes], None]) -> int:
        piece = os.read(self._descriptor, _CHUNK)
        kept = piece[: self._limit - len(self._data)]
        self._data += kept
        self.dropped += len(piece) - len(kept)
        listener(piece)
        return len(piece)

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
        if not self._released:
            self.dropped += count
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


class LeftOver:
    """Streams of ended commands that background children may still write to: the latest are read and dropped.

    Who holds an older one writes into a broken pipe.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._captures: list[Capture] = []

    def add(self, captures: Sequence[Capture]) -> None:
        """Take over streams that are finished."""
        self._captures = [capture for capture in self._captures if capture.open] + list(captures)
        while len(self._captures) > _MOST_LEFT_OVER:
            self._captures.pop(0).close()

    def close(self) -> None:
        """Stop reading them all."""
        for capture in self._captures:
            capture.close()


class Tap:
    """One stream of output, all of which is handed on as it comes.

    Takes over `descriptor`, a non-blocking pipe end or the master of a terminal.
    """

    def __init__(self, descriptor: int, heard: Callable[[bytes], None]) -> None:
        """Start reading in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._descriptor = descriptor
        self._heard = heard
        self._loop.add_reader(descriptor, self._read_once)

    def finish(self) -> None:
        """Hand on what has arrived, and close."""
        for _ in range(_FINAL_READS):
            if not self._read_once():
                break
        self.close()

    def close(self) -> None:
        """Stop reading. Safe to call twice."""
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _read_once(self) -> bool:
        if self._descriptor < 0:
            return False
        try:
            piece = os.read(self._descriptor, _CHUNK)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.EIO:  # a terminal's way to say that nobody has it open
                raise
            piece = b""
        if not piece:
            self.close()
            return False
        self._heard(piece)
        return True
