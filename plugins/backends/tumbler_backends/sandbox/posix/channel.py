"""The way a session's commands speak: two named pipes inside, and a process that reads them out; knows no commands.

No two commands share a channel as long as anybody may still write to it: that keeps a background child's late output
out of later results. When its last writer has closed a pipe, the process says so with the mark `free`.
"""

import asyncio
import secrets
from typing import Final

from tumbler_backends.sandbox.posix.launched import LaunchedProcess
from tumbler_backends.sandbox.posix.marks import Collector, Mark, MarkedStream
from tumbler_backends.sandbox.posix.output import OutputRing
from tumbler_backends.sandbox.posix.spawner import Spawner

__all__ = ["END", "Channel"]

END: Final = b"end"
"""The mark with which the session's shell says that a command's output is complete."""
_FREE: Final = b"free"
_READER: Final = (
    'mkdir -p -m 700 "$1"; cd -- "$1" || exit; mkfifo "$2o" "$2e" 2>/dev/null; '
    'while :; do cat <"$2e" >&2 || exit; printf "\\000%s:free\\000" "$3" >&2; done & '
    'while :; do cat <"$2o" || exit; printf "\\000%s:free\\000" "$3"; done'
)
_PIECE: Final = 1 << 20
_WAIT_S: Final = 3600.0


class Channel:
    """Two pipes, and what came through them since `begin`."""

    def __init__(self, process: LaunchedProcess, number: int, key: str) -> None:
        """Take over a reader made by `open`."""
        self.number = number
        self.key = key
        self.process = process
        self._lanes = tuple(_Lane(ring, key) for ring in (process.record.stdout, process.record.stderr))

    @classmethod
    async def open(cls, spawner: Spawner, folder: str, number: int) -> "Channel":
        """Start the reader of the pipes `<number>o` and `<number>e` in `folder`."""
        key = secrets.token_hex(16)
        process = await spawner.launch(["/bin/sh", "-c", _READER, "sh", folder, str(number), key])
        return cls(process, number, key)

    def begin(self, limit: int) -> None:
        """Collect up to `limit` bytes of each stream from now on."""
        for lane in self._lanes:
            lane.begin(limit)

    async def complete(self) -> None:
        """Wait until the command's output is all here."""
        await asyncio.gather(*(lane.ended.wait() for lane in self._lanes))

    async def free(self, timeout: float) -> bool:
        """Wait until nobody can write any more; tell whether that came in time."""
        try:
            async with asyncio.timeout(timeout):
                await asyncio.gather(*(lane.free.wait() for lane in self._lanes))
        except TimeoutError:
            return False
        return not self.process.record.ended

    @property
    def stdout(self) -> Collector:
        """Return what was collected of stdout."""
        return self._lanes[0].collector

    @property
    def stderr(self) -> Collector:
        """Return what was collected of stderr."""
        return self._lanes[1].collector

    @property
    def ended(self) -> bool:
        """Tell whether the command's stdout is complete."""
        return self._lanes[0].ended.is_set()

    async def news(self) -> None:
        """Wait for more stdout, or its end."""
        lane = self._lanes[0]
        lane.news.clear()
        await lane.news.wait()

    async def close(self, grace: float = 0.0) -> None:
        """End the reader; who still writes gets a broken pipe."""
        for lane in self._lanes:
            lane.task.cancel()
        try:
            await self.process.kill_tree(grace)
        finally:
            await self.process.abandon()


class _Lane:
    """One of the two streams."""

    def __init__(self, ring: OutputRing, key: str) -> None:
        self.collector = Collector(0)
        self.ended = asyncio.Event()
        self.free = asyncio.Event()
        self.news = asyncio.Event()
        self.free.set()
        self.ended.set()
        self._marked = MarkedStream(key)
        self.task = asyncio.get_running_loop().create_task(self._listen(ring))

    def begin(self, limit: int) -> None:
        self.collector = Collector(limit)
        self.ended.clear()
        self.free.clear()

    async def _listen(self, ring: OutputRing) -> None:
        offset = 0
        try:
            while True:
                piece = await ring.read(offset=offset, limit=_PIECE, timeout=_WAIT_S)
                self._take(piece.data, piece.offset - offset)
                offset = piece.offset + len(piece.data)
                if piece.end:
                    return
        finally:
            self._settle(_FREE)

    def _take(self, data: bytes, lost: int) -> None:
        if not self.ended.is_set():
            self.collector.skip(lost)
        for part in self._marked.feed(data):
            if isinstance(part, Mark):
                self._settle(part.word)
            elif not self.ended.is_set():  # else it is late, and nobody's
                self.collector.take(part)
        self.news.set()

    def _settle(self, word: bytes) -> None:
        self.ended.set()
        self.news.set()
        if word == _FREE:
            self.free.set()
