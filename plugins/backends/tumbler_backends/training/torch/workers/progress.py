"""What workers have got done, in a file that they and their owner have mapped into memory: no message can get stuck."""

import mmap
import time
from pathlib import Path

__all__ = ["ProgressFile"]

BEATS, MEETINGS, ALIVE = range(3)
FIELDS = 3
NUMBER = 8
"""Bytes of a field."""


class ProgressFile:
    """A record for each worker, of which only that worker writes, each field from one thread."""

    def __init__(self, file: Path, *, workers: int) -> None:
        size = NUMBER * FIELDS * workers
        if not file.exists():
            file.write_bytes(bytes(size))
        with file.open("r+b") as stream:
            self._memory = mmap.mmap(stream.fileno(), size)
        self._numbers = memoryview(self._memory).cast("q")

    def beat(self, rank: int) -> None:
        """Count a pass over a micro-batch, or a call."""
        self._numbers[FIELDS * rank + BEATS] += 1

    def meet(self, rank: int) -> None:
        """Count an arrival at where every worker has to arrive."""
        self._numbers[FIELDS * rank + MEETINGS] += 1

    def show_alive(self, rank: int) -> None:
        """Note the time."""
        self._numbers[FIELDS * rank + ALIVE] = time.monotonic_ns()

    def done(self) -> tuple[int, ...]:
        """Return numbers that change whenever a worker gets something done."""
        return tuple(number for index, number in enumerate(self._numbers) if index % FIELDS != ALIVE)

    def suspects(self, *, silence: float) -> list[int]:
        """Return the workers for which the others seem to wait.

        These are the ones that have not shown themselves alive for `silence` seconds, or else the ones that
        came to the fewest places where all have to arrive.
        """
        alive, meetings = self._numbers[ALIVE::FIELDS].tolist(), self._numbers[MEETINGS::FIELDS].tolist()
        horizon = time.monotonic_ns() - int(silence * 1e9)
        frozen = [rank for rank, when in enumerate(alive) if when < horizon]
        return frozen or [rank for rank, count in enumerate(meetings) if count == min(meetings)]

    def close(self) -> None:
        """Let go of the memory."""
        self._numbers.release()
        self._memory.close()
