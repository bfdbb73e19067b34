"""Output on its way to a client that takes it slowly: a little in memory, the rest in a file without a name."""

import asyncio
import tempfile
from collections import deque
from typing import BinaryIO, Final

__all__ = ["Spool"]

_MEMORY_BYTES: Final = 1 << 20


class Spool:
    """Pieces of output under the names of their streams, first in, first out."""

    def __init__(self) -> None:
        """Begin empty; the file is made when it is needed."""
        self._entries: deque[tuple[str, bytes | None, int]] = deque()
        self._in_memory = 0
        self._size = 0
        self._file: BinaryIO | None = None
        self._written = 0
        self._read = 0
        self._news = asyncio.Event()
        self._ended = False

    @property
    def size(self) -> int:
        """Return how many bytes wait."""
        return self._size

    def put(self, name: str, piece: bytes) -> None:
        """Take in a piece."""
        self._size += len(piece)
        if self._in_memory + len(piece) <= _MEMORY_BYTES:
            self._in_memory += len(piece)
            self._entries.append((name, piece, len(piece)))
        else:
            self._store(piece)
            self._entries.append((name, None, len(piece)))
        self._news.set()

    def end(self) -> None:
        """Say that nothing more comes."""
        self._ended = True
        self._news.set()

    async def get(self) -> tuple[str, bytes] | None:
        """Return the oldest piece, once there is one; None at the end."""
        while not self._entries:
            if self._ended:
                return None
            self._news.clear()
            await self._news.wait()
        name, piece, length = self._entries.popleft()
        self._size -= length
        if piece is not None:
            self._in_memory -= length
            return name, piece
        return name, self._fetch(length)

    def close(self) -> None:
        """Drop everything."""
        self._entries.clear()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _store(self, piece: bytes) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="tumbler-e2b-")  # noqa: SIM115  # `close` closes it
        self._file.seek(self._written)
        self._file.write(piece)
        self._written += len(piece)

    def _fetch(self, length: int) -> bytes:
        assert self._file is not None, "an entry without a piece lies in the file"
        self._file.seek(self._read)
        piece = self._file.read(length)
        self._read += length
        if self._read == self._written:  # all of it was told
            self._file.seek(0)
            self._file.truncate()
            self._read = self._written = 0
        return piece
