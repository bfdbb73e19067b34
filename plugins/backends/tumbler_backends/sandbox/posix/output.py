"""What running processes said, kept in memory and read from any offset; knows no process and no sandbox."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from tumbler.contracts.sandbox_process import OutputSlice

__all__ = ["OutputRing"]

_FOLLOW_BYTES: Final = 1 << 16
_FOLLOW_S: Final = 60.0


class OutputRing:
    """One stream of output: the last `limit` bytes are kept, each under its offset in the whole stream.

    Any number of readers may wait at any offset. Belongs to one event loop.
    """

    def __init__(self, limit: int) -> None:
        """Keep the last `limit` bytes."""
        self._limit = limit
        self._kept = bytearray()
        self._total = 0
        self._ended = False
        self._news: asyncio.Future[None] | None = None

    @property
    def total(self) -> int:
        """Return how many bytes the stream had so far."""
        return self._total

    @property
    def start(self) -> int:
        """Return the offset of the oldest byte that is kept."""
        return self._total - len(self._kept)

    @property
    def ended(self) -> bool:
        """Tell whether the stream is closed."""
        return self._ended

    def feed(self, data: bytes) -> None:
        """Take in the stream's next bytes."""
        self._total += len(data)
        self._kept += data[-self._limit :] if self._limit else b""
        del self._kept[: max(0, len(self._kept) - self._limit)]
        self._wake()

    def end(self) -> None:
        """Say that nothing more comes. Safe to call twice."""
        self._ended = True
        self._wake()

    def since(self, offset: int) -> bytes:
        """Return all that is kept from byte `offset` on."""
        return bytes(memoryview(self._kept)[max(0, offset - self.start) :])

    async def changed(self, timeout: float) -> bool:
        """Wait for more output or the end, at most `timeout` seconds; tell whether it came."""
        if self._ended:
            return True
        if self._news is None:
            self._news = asyncio.get_running_loop().create_future()
        done, _ = await asyncio.wait((self._news,), timeout=timeout)
        return bool(done)

    async def read(self, *, offset: int, limit: int, timeout: float) -> OutputSlice:
        """Return up to `limit` bytes from `offset` on; see `tumbler.contracts.sandbox_process.Process.read`."""
        if offset < 0 or limit <= 0:
            raise ValueError(f"an offset is 0 or more and a limit 1 or more, not {offset} and {limit}")
        deadline = asyncio.get_running_loop().time() + timeout
        while offset >= self._total and not self._ended:
            if not await self.changed(deadline - asyncio.get_running_loop().time()):
                break
        begin = max(offset, self.start)
        place = begin - self.start
        data = bytes(memoryview(self._kept)[place : place + limit])
        return OutputSlice(data=data, offset=begin, end=self._ended and begin + len(data) >= self._total)

    async def follow(self, offset: int) -> AsyncIterator[bytes]:
        """Yield the stream from `offset` on until it ends; what was thrown away meanwhile is left out."""
        while True:
            piece = await self.read(offset=offset, limit=_FOLLOW_BYTES, timeout=_FOLLOW_S)
            if piece.data:
                yield piece.data
            if piece.end:
                return
            offset = piece.offset + len(piece.data)

    def _wake(self) -> None:
        news, self._news = self._news, None
        if news is not None and not news.done():
            news.set_result(None)
