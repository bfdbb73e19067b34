"""The part of a sandbox that is about its files: whole, in pieces, as a tree, and watched."""

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sequence
from typing import Final

from tumbler.contracts.sandbox_files import FileEntry, FileEvent
from tumbler.errors import QuotaExceeded
from tumbler_backends.sandbox.bubblewrap.box import Box
from tumbler_backends.sandbox.bubblewrap.filesystem.files import SandboxFiles, read_and_close
from tumbler_backends.sandbox.bubblewrap.filesystem.finishing import to_the_end
from tumbler_backends.sandbox.posix.opening import opened
from tumbler_backends.sandbox.posix.watch import Watch

__all__ = ["Files"]

_LARGE_BYTES: Final = 1 << 18
"""Files from this size on are moved by a thread, not by the event loop."""
_PIECE: Final = 1 << 20
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Files:
    """See `tumbler.contracts.sandbox_files.FilesSandbox`; where nothing is mounted, no call waits for a process."""

    _box: Box

    async def write(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        """Write a file in one step, parents made; a link in the last place is replaced, not followed.

        Raises `QuotaExceeded` where the sandbox's or the host's disk is full.
        """
        async with self._tree() as files:
            with self._full_disk(path):
                if len(content) < _LARGE_BYTES:
                    files.write(path, content, mode)
                else:
                    await to_the_end(asyncio.to_thread(files.write, path, content, mode))

    async def read(self, path: str, *, limit: int = 10 << 20) -> bytes:
        """Read a regular file of at most `limit` bytes; a longer one is `OSError` with `EFBIG`."""
        async with self._tree() as files:
            descriptor, size = files.open(path)
            if size < _LARGE_BYTES:
                return read_and_close(descriptor, limit, path)
            return await to_the_end(asyncio.to_thread(read_and_close, descriptor, limit, path))

    async def list(self, path: str = ".", *, depth: int = 1) -> Sequence[FileEntry]:
        """Return what a folder holds, sorted by path; `depth` 1 is the folder's own entries."""
        async with self._tree() as files:
            return await asyncio.to_thread(files.entries, path, depth)

    async def stat(self, path: str) -> FileEntry:
        """Describe one entry; a link in the last place is not followed."""
        async with self._tree() as files:
            return files.stat(path)

    async def mkdir(self, path: str, *, parents: bool = True, exist_ok: bool = True) -> None:
        """Make a folder."""
        async with self._tree() as files:
            with self._full_disk(path):
                files.mkdir(path, parents=parents, exist_ok=exist_ok)

    async def move(self, source: str, destination: str) -> None:
        """Rename a file or folder; a file at the destination is replaced, and missing parents are made."""
        async with self._tree() as files:
            with self._full_disk(destination):
                files.move(source, destination)

    async def remove(self, path: str, *, recursive: bool = False) -> None:
        """Remove a file, a link or an empty folder; with `recursive`, a folder with all in it."""
        async with self._tree() as files:
            await asyncio.to_thread(files.remove, path, recursive=recursive)

    async def read_stream(self, path: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield a file in pieces of at most 1 MiB."""
        async with self._tree() as files:
            descriptor, _ = files.open(path)
            with opened(descriptor):
                while piece := await to_the_end(asyncio.to_thread(os.pread, descriptor, _PIECE, offset)):
                    offset += len(piece)
                    yield piece

    async def write_stream(self, path: str, pieces: AsyncIterable[bytes], *, mode: int = 0o644) -> None:
        """Write a file from pieces, parents made; it appears only when it is whole."""
        async with self._tree() as files:
            with self._full_disk(path), files.stage(path, mode) as file:
                async for piece in pieces:
                    self._box.require()
                    await to_the_end(asyncio.to_thread(file.write, piece))
                file.commit()

    async def watch(self, path: str = ".", *, recursive: bool = False) -> AsyncIterator[FileEvent]:
        """Yield the changes below a folder, from the first `anext` on, until the caller stops."""
        async with self._tree() as files:
            with Watch(files.absolute(path), recursive=recursive) as watch:
                watch.add(files.open_folder(path))
                async for event in watch:
                    yield event

    @contextlib.asynccontextmanager
    async def _tree(self) -> AsyncIterator[SandboxFiles]:
        """Lend the files as the sandbox sees them."""
        self._box.require()
        storage = self._box.storage
        if not storage.mounted:
            yield storage.files()
            return
        async with storage.room.entered() as room:
            yield storage.files(room)

    @contextlib.contextmanager
    def _full_disk(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _FULL:
                raise
            limit = self._box.spec.resources.disk_bytes
            place = f"its disk_bytes are {limit}" if limit else f"{self._box.layout.folder} lies on a full disk"
            raise QuotaExceeded(f"{path!r} could not be written in sandbox {self._box.name}: {place}") from error
