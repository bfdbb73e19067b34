"""Find marks in a stream of bytes: where one command's output ends, though its pipe stays open.

A mark is NUL, a random key, a colon, a word, NUL. Who does not know the key cannot write one by accident.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["Collector", "Mark", "MarkedStream"]

_MAX_WORD: Final = 64


@dataclass(frozen=True)
class Mark:
    """A mark in the stream, with its word."""

    word: bytes


class MarkedStream:
    """Splits a stream that comes in pieces at the marks of one key."""

    def __init__(self, key: str) -> None:
        """Look for marks with this key."""
        self._begin = b"\0" + key.encode() + b":"
        self._held = b""

    def feed(self, piece: bytes) -> Iterator[bytes | Mark]:
        """Yield the output and the marks in `piece`; what may be half a mark is held back."""
        data = self._held + piece
        self._held = b""
        while (at := data.find(self._begin)) >= 0:
            end = data.find(b"\0", at + len(self._begin), at + len(self._begin) + _MAX_WORD)
            if end < 0:
                break
            if at:
                yield data[:at]
            yield Mark(data[at + len(self._begin) : end])
            data = data[end + 1 :]
        cut = self._cut(data)
        self._held = data[cut:]
        if cut:
            yield data[:cut]

    def rest(self) -> bytes:
        """Return what was held back, at the stream's end."""
        held, self._held = self._held, b""
        return held

    def _cut(self, data: bytes) -> int:
        """Return where half a mark begins at the end of `data`."""
        longest = len(self._begin) + _MAX_WORD
        at = data.find(b"\0", max(0, len(data) - longest))
        while at >= 0:
            tail = data[at:]
            if self._begin.startswith(tail) or tail.startswith(self._begin):
                return at
            at = data.find(b"\0", at + 1)
        return len(data)


class Collector:
    """The first `limit` bytes of a stream; the rest is counted and dropped."""

    def __init__(self, limit: int) -> None:
        """Begin with nothing."""
        self._limit = limit
        self._kept = bytearray()
        self.dropped = 0

    @property
    def data(self) -> bytes:
        """Return what was kept."""
        return bytes(self._kept)

    def take(self, piece: bytes) -> None:
        """Keep or count a piece."""
        room = max(0, self._limit - len(self._kept))
        self._kept += piece[:room]
        self.dropped += max(0, len(piece) - room)

    def skip(self, count: int) -> None:
        """Count bytes that never came here."""
        self.dropped += count
