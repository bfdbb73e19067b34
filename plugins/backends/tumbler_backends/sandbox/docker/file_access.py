"""The part of a sandbox that is about its files: whole, in pieces, as a tree, and watched."""

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sequence
from typing import Final

from tumbler.contracts.sandbox_files import FileEntry, FileEvent
from tumbler.errors import QuotaExceeded
from tumbler_backends.sandbox.docker.box import Box
from tumbler_backends.sandbox.docker.tree import ContainerTree, read_and_close
from tumbler_backends.sandbox.posix.opening import opened
from tumbler_backends.sandbox.posix.watch import Watch

__all__ = ["LocalFiles"]

_LARGE_BYTES: Final = 1 << 18
"""Files from this size on are moved by a thread, not by the event loop."""
_PIECE: Final = 1 << 20
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class LocalFiles:
    """See `tumbler.contracts.sandbox_files.FilesSandbox`; no process of the sandbox is needed."""

    _box: Box
    _tree: ContainerTree

    async def write(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        """Write a file in one step, parents made; a link in the last place is replaced, not followed."""
        self._box.require()
        with self._full_disk(path):
            if len(content) < _LARGE_BYTES:
                self._tree.write(path, content, mode)
            else:
                await asyncio.to_thread(self._tree.write, path, content, mode)

    async def read(self, path: str, *, limit: int = 10 << 20) -> bytes:
        """Read a regular file of at most `limit` bytes; a longer one is `OSError` with `EFBIG`."""
        self._box.require()
        descriptor, size = self._tree.open(path)
        if size < _LARGE_BYTES:
            return read_and_close(descriptor, limit, path)
        return await asyncio.to_thread(read_and_close, descriptor, limit, path)

    async def list(self, path: str = ".", *, depth: int = 1) -> Sequence[FileEntry]:
        """Return what a folder holds, sorted by path; `depth` 1 is the folder's own entries."""
        self._box.require()
        return await asyncio.to_thread(self._tree.list, path, depth)

    async def stat(self, path: str) -> FileEntry:
        """Describe one entry; a link in the last place is not followed."""
        self._box.require()
        return self._tree.stat(path)

    async def mkdir(self, path: str, *, parents: bool = True, exist_ok: bool = True) -> None:
        """Make a folder."""
        self._box.require()
        with self._full_disk(path):
            self._tree.mkdir(path, parents=parents, exist_ok=exist_ok)

    async def move(self, source: str, destination: str) -> None:
        """Rename a file or folder; a file at the destination is replaced, and missing parents are made."""
        self._box.require()
        with self._full_disk(destination):
            await asyncio.to_thread(self._tree.move, source, destination)

    async def remove(self, path: str, *, recursive: bool = False) -> None:
        """Remove a file, a link or an empty folder; with `recursive`, a folder with all in it."""
        self._box.require()
        await asyncio.to_thread(self._tree.remove, path, recursive=recursive)

    async def read_stream(self, path: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield a file in pieces of at most 1 MiB."""
        self._box.require()
        descriptor, _ = self._tree.open(path)
        with opened(descriptor):
            while piece := await asyncio.to_thread(os.pread, descriptor, _PIECE, offset):
                offset += len(piece)
                yield piece
                self._box.require()

    async def write_stream(self, path: str, pieces: AsyncIterable[bytes], *, mode: int = 0o644) -> None:
        """Write a file from pieces, parents made; it appears only when it is whole."""
        self._box.require()
        with self._full_disk(path), self._tree.new_file(path, mode) as file:
            async for piece in pieces:
                self._box.require()
                await asyncio.to_thread(file.write, piece)
            file.commit()

    async def watch(self, path: str = ".", *, recursive: bool = False) -> AsyncIterator[FileEvent]:
        """Yield the changes below a folder, from the first `anext` on, until the caller stops."""
        self._box.require()
        with Watch(self._tree.absolute(path), recursive=recursive) as watch:
            watch.add(self._tree.open_folder(path))
            async for event in watch:
                yield event

    @contextlib.contextmanager
    def _full_disk(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _FULL:
                raise
            limit = self._box.spec.resources.disk_bytes or self._box.settings.disk_bytes
            raise QuotaExceeded(
                f"{path!r} could not be written: the sandbox's folders have {limit} bytes each"
            ) from error
