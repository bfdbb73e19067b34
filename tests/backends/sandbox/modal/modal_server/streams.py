"""One output stream of a process, kept for readers that come back with an offset."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator

_CHUNK = 1 << 20
_KEPT = 8 << 20


class StoredStream:
    """Reads a pipe; the last bytes are kept, and a slow reader slows the writer down."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._loop = asyncio.get_running_loop()
        self._descriptor = descriptor
        self._kept = bytearray()
        self._start = 0
        self._readers: dict[int, int] = {}
        self._numbers = itertools.count()
        self._news = asyncio.Event()
        self._paused = False
        self.ended = False
        self._loop.add_reader(descriptor, self._read_once)

    @property
    def total(self) -> int:
        return self._start + len(self._kept)

    async def read(self, offset: int) -> AsyncIterator[bytes]:
        number = next(self._numbers)
        try:
            while True:
                offset = max(offset, self._start)
                self._readers[number] = offset
                self._resume()
                piece = bytes(self._kept[offset - self._start : offset - self._start + _CHUNK])
                if piece:
                    yield piece
                    offset += len(piece)
                elif self.ended:
                    return
                else:
                    news = self._news
                    await news.wait()
        finally:
            self._readers.pop(number, None)
            self._resume()

    def close(self) -> None:
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
        self.ended = True
        self._tell()

    def _read_once(self) -> None:
        try:
            piece = os.read(self._descriptor, _CHUNK)
        except BlockingIOError:
            return
        if not piece:
            self.close()
            return
        self._kept += piece
        surplus = min(len(self._kept) - _KEPT, self._slowest() - self._start)
        if surplus > 0:
            del self._kept[:surplus]
            self._start += surplus
        if len(self._kept) > _KEPT:
            self._paused = True
            self._loop.remove_reader(self._descriptor)
        self._tell()

    def _slowest(self) -> int:
        return min(self._readers.values(), default=self.total)

    def _resume(self) -> None:
        if self._paused and self._descriptor >= 0 and self.total - self._slowest() < _KEPT // 2:
            self._paused = False
            self._loop.add_reader(self._descriptor, self._read_once)

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()
