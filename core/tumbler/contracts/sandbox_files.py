"""A sandbox's files beyond whole reads and writes.

These protocols extend `tumbler.contracts.sandbox.Sandbox`. Paths are paths inside the sandbox, relative ones lie in
its working directory, and no link leads out of it. Errors are the builtin `OSError` classes.
"""

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

__all__ = ["EntryKind", "EventKind", "FileEntry", "FileEvent", "FilesSandbox"]

EntryKind: TypeAlias = Literal["file", "directory", "symlink", "other"]
EventKind: TypeAlias = Literal["create", "write", "remove", "rename", "chmod"]


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One entry of the sandbox's file system; a link is described itself, not what it leads to."""

    path: str
    """Absolute."""
    kind: EntryKind
    size: int
    """Bytes."""
    mode: int
    """Permission bits, such as 0o644."""
    modified: float
    """Seconds since the epoch."""
    owner: str = ""
    group: str = ""
    target: str | None = None
    """Where a symbolic link leads."""

    @property
    def name(self) -> str:
        """Return the last part of the path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class FileEvent:
    """A change below a watched folder."""

    kind: EventKind
    path: str
    """Absolute."""


@runtime_checkable
class FilesSandbox(Protocol):
    """A sandbox whose tree can be looked at and changed."""

    async def list(self, path: str = ".", *, depth: int = 1) -> Sequence[FileEntry]:
        """Return what a folder holds, sorted by path; `depth` 1 is the folder's own entries. Follows no link below."""
        ...

    async def stat(self, path: str) -> FileEntry:
        """Describe one entry; a link in the last place is not followed."""
        ...

    async def mkdir(self, path: str, *, parents: bool = True, exist_ok: bool = True) -> None:
        """Make a folder."""
        ...

    async def move(self, source: str, destination: str) -> None:
        """Rename a file or folder; a file at the destination is replaced, and missing parents are made."""
        ...

    async def remove(self, path: str, *, recursive: bool = False) -> None:
        """Remove a file, a link or an empty folder; with `recursive`, a folder with all in it."""
        ...

    def read_stream(self, path: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield a file in pieces; the memory used does not depend on its size."""
        ...

    async def write_stream(self, path: str, pieces: AsyncIterable[bytes], *, mode: int = 0o644) -> None:
        """Write a file from pieces, parents made; the file appears only when it is whole."""
        ...

    def watch(self, path: str = ".", *, recursive: bool = False) -> AsyncIterator[FileEvent]:
        """Yield the changes below a folder, from the time of the first `anext` on, until the caller stops.

        Raises `CapabilityError` where `SandboxCapabilities.watch` is false.
        """
        ...
