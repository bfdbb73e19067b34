"""Send bytes to a descriptor that takes them slowly, with a bound; knows no process and no sandbox."""

import asyncio
import os
from typing import Final

__all__ = ["InputWriter"]

_STALL_S: Final = 60.0
"""How long a writer waits for a reader that takes nothing."""


class InputWriter:
    """The writing end of a process's standard input. Belongs to one event loop."""

    def __init__(self, descriptor: int) -> None:
        """Take over `descriptor`, a non-blocking pipe end or terminal."""
        self._loop = asyncio.get_running_loop()
        self._descriptor = descriptor
        self._turn = asyncio.Lock()
        self._room: asyncio.Future[None] | None = None

    @property
    def closed(self) -> bool:
        """Tell whether it is closed."""
        return self._descriptor < 0

    async def write(self, data: bytes) -> None:
        """Return once the descriptor has taken all of `data`; callers take turns and nothing is kept in memory.

        Raises `BrokenPipeError` once nobody can read it, and `TimeoutError` when nothing was taken for a minute.
        """
        async with self._turn:
            rest = memoryview(data)
            while True:
                if self._descriptor < 0:
                    raise BrokenPipeError("standard input is closed")
                try:
                    rest = rest[os.write(self._descriptor, rest) :]
                except BlockingIOError:
                    await self._until_room()
                if not rest:
                    return

    async def drained(self) -> None:
        """Wait for the writers before; use it ahead of `close` to cut nobody off."""
        async with self._turn:
            return

    def close(self) -> None:
        """End the input; who still writes gets `BrokenPipeError`. Safe to call twice."""
        if self._descriptor < 0:
            return
        self._loop.remove_writer(self._descriptor)
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)
        self._wake()

    async def _until_room(self) -> None:
        self._room = self._loop.create_future()
        self._loop.add_writer(self._descriptor, self._wake)
        try:
            async with asyncio.timeout(_STALL_S):
                await self._room
        except TimeoutError:
            raise TimeoutError(
                f"standard input took nothing for {_STALL_S:g} s: the process does not read it"
            ) from None
        finally:
            if self._descriptor >= 0:
                self._loop.remove_writer(self._descriptor)

    def _wake(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
