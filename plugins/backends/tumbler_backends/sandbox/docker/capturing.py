"""Read pipes in the event loop: what arrives is kept up to a limit, counted beyond it; knows no command."""

import asyncio
import os
from collections.abc import Callable
from typing import Final

__all__ = ["Kept", "PipeReader"]

_CHUNK: Final = 1 << 16
_FINAL_READS: Final = 64
"""Enough to empty the largest pipe, and a bound where a background child never stops writing."""


class Kept:
    """The first `limit` bytes of a stream."""

    def __init__(self, limit: int) -> None:
        """Begin with nothing."""
        self._limit = limit
        self._data = bytearray()
        self.dropped = 0
        """How many bytes came after those."""

    @property
    def data(self) -> bytes:
        """Return what was kept."""
        return bytes(self._data)

    @property
    def size(self) -> int:
        """Return how many bytes were kept."""
        return len(self._data)

    def feed(self, piece: bytes) -> None:
        """Take in the stream's next bytes."""
        room = self._limit - len(self._data)
        self._data += piece[:room] if room > 0 else b""
        self.dropped += max(0, len(piece) - max(0, room))


class PipeReader:
    """Hands over what a pipe or terminal gives, until no writer is left."""

    def __init__(
        self, descriptor: int, feed: Callable[[bytes], None], on_end: Callable[[], None] | None = None
    ) -> None:
        """Take over `descriptor` and start reading in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._descriptor = descriptor
        self._feed: Callable[[bytes], None] | None = feed
        self._on_end = on_end
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self._read_once)

    @property
    def open(self) -> bool:
        """Tell whether a writer may be left."""
        return self._descriptor >= 0

    def drain(self) -> None:
        """Hand over what has arrived by now."""
        for _ in range(_FINAL_READS):
            if not self._read_once():
                return

    def release(self) -> None:
        """Read on and throw away what comes, so that a left-over writer neither blocks nor fails."""
        self._feed = None

    def close(self) -> None:
        """Stop reading; a writer that is left gets a broken pipe. Safe to call twice."""
        if self._descriptor < 0:
            return
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1
        if self._on_end is not None:
            self._on_end()

    def _read_once(self) -> bool:
        """Hand over one piece; return whether there may be more at once."""
        if self._descriptor < 0:
            return False
        try:
            piece = os.read(self._descriptor, _CHUNK)
        except BlockingIOError:
            return False
        except OSError:  # a terminal without programs on it
            piece = b""
        if not piece:
            self.close()
            return False
        if self._feed is not None:
            self._feed(piece)
        return True
