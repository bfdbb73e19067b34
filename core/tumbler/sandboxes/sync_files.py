"""A sandbox's files without `async`; see `tumbler.contracts.sandbox_files` for what each method promises."""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path

from tumbler.contracts.sandbox import Sandbox
from tumbler.contracts.sandbox_control import CompleteSandbox
from tumbler.contracts.sandbox_files import FileEntry, FileEvent
from tumbler.sandboxes.background import BackgroundLoop
from tumbler.sandboxes.narrowing import complete_sandbox
from tumbler.sandboxes.search import glob
from tumbler.sandboxes.transfer import Transfer, download, upload

__all__ = ["SyncFiles"]


class SyncFiles:
    """The part of a sandbox that is its files."""

    def __init__(self, sandbox: Sandbox, loop: BackgroundLoop) -> None:
        """Take over a sandbox that lives in `loop`."""
        self._sandbox, self._loop = sandbox, loop

    def write(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        """Write a file, parents made."""
        self._loop.run(self._sandbox.write(path, content, mode=mode))

    def read(self, path: str, *, limit: int = 10 << 20) -> bytes:
        """Read a file of at most `limit` bytes."""
        return self._loop.run(self._sandbox.read(path, limit=limit))

    def list(self, path: str = ".", *, depth: int = 1) -> Sequence[FileEntry]:
        """Return what a folder holds, sorted by path."""
        return self._loop.run(self._complete.list(path, depth=depth))

    def stat(self, path: str) -> FileEntry:
        """Describe one entry."""
        return self._loop.run(self._complete.stat(path))

    def mkdir(self, path: str, *, parents: bool = True, exist_ok: bool = True) -> None:
        """Make a folder."""
        self._loop.run(self._complete.mkdir(path, parents=parents, exist_ok=exist_ok))

    def move(self, source: str, destination: str) -> None:
        """Rename a file or folder."""
        self._loop.run(self._complete.move(source, destination))

    def remove(self, path: str, *, recursive: bool = False) -> None:
        """Remove a file, a link or a folder."""
        self._loop.run(self._complete.remove(path, recursive=recursive))

    def read_stream(self, path: str, *, offset: int = 0) -> Iterator[bytes]:
        """Yield a file in pieces."""
        return self._loop.iterate(self._complete.read_stream(path, offset=offset))

    def write_stream(self, path: str, pieces: Iterable[bytes], *, mode: int = 0o644) -> None:
        """Write a file from pieces; they are taken from the iterable in another thread than the caller's."""

        async def asynchronous() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        self._loop.run(self._complete.write_stream(path, asynchronous(), mode=mode))

    def watch(self, path: str = ".", *, recursive: bool = False) -> Iterator[FileEvent]:
        """Yield the changes below a folder until the caller stops."""
        return self._loop.iterate(self._complete.watch(path, recursive=recursive))

    def glob(self, pattern: str) -> Sequence[FileEntry]:
        """Return the entries whose paths match; see `tumbler.sandboxes.glob`."""
        return self._loop.run(glob(self._complete, pattern))

    def upload(self, source: Path, destination: str) -> Transfer:
        """Copy a file or folder of this machine into the sandbox; see `tumbler.sandboxes.upload`."""
        return self._loop.run(upload(self._complete, source, destination))

    def download(self, source: str, destination: Path, *, limit: int | None = None) -> Transfer:
        """Copy a file or folder out of the sandbox; see `tumbler.sandboxes.download`."""
        return self._loop.run(download(self._complete, source, destination, limit=limit))

    @property
    def _complete(self) -> CompleteSandbox:
        return complete_sandbox(self._sandbox)
