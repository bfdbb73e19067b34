"""The part of a sandbox that is its files; starts nothing."""

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import Final

from tumbler.contracts.sandbox_files import FileEntry, FileEvent
from tumbler_backends.sandbox.posix.watch import Watch
from tumbler_backends.sandbox.process.box import Box

__all__ = ["SandboxFiles"]

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class SandboxFiles:
    """See `tumbler.contracts.sandbox_files.FilesSandbox` for what each method promises."""

    def __init__(self, box: Box) -> None:
        """Serve a box."""
        self._box = box

    async def write(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        """Write a file in one step, parents made."""
        self._box.require()
        await asyncio.to_thread(self._box.files.write, path, content, mode)

    async def read(self, path: str, *, limit: int = 10 << 20) -> bytes:
        """Read a file of at most `limit` bytes."""
        self._box.require()
        return await asyncio.to_thread(self._box.files.read, path, limit)

    async def list(self, path: str = ".", *, depth: int = 1) -> Sequence[FileEntry]:
        """Return what a folder holds."""
        self._box.require()
        return await asyncio.to_thread(self._box.files.list, path, depth)

    async def stat(self, path: str) -> FileEntry:
        """Describe one entry."""
        self._box.require()
        return self._box.files.stat(path)

    async def mkdir(self, path: str, *, parents: bool = True, exist_ok: bool = True) -> None:
        """Make a folder."""
        self._box.require()
        self._box.files.mkdir(path, parents=parents, exist_ok=exist_ok)

    async def move(self, source: str, destination: str) -> None:
        """Rename a file or folder."""
        self._box.require()
        self._box.files.move(source, destination)

    async def remove(self, path: str, *, recursive: bool = False) -> None:
        """Remove a file, a link or a folder."""
        self._box.require()
        files = self._box.files
        await asyncio.to_thread(lambda: files.remove(path, recursive=recursive))

    async def read_stream(self, path: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield a file in pieces."""
        self._box.require()
        async for piece in self._box.files.read_stream(path, offset):
            yield piece

    async def write_stream(self, path: str, pieces: AsyncIterable[bytes], *, mode: int = 0o644) -> None:
        """Write a file from pieces."""
        self._box.require()
        await self._box.files.write_stream(path, pieces, mode)

    async def watch(self, path: str = ".", *, recursive: bool = False) -> AsyncIterator[FileEvent]:
        """Yield the changes below a folder."""
        self._box.require()
        place = self._box.files.locate(path)
        with Watch(self._box.files.inside(place), recursive=recursive) as watch:
            watch.add(os.open(place, _FOLDER))
            async for event in watch:
                yield event
