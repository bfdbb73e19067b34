"""A sandbox's files, where paths inside mean paths below a folder of this machine; starts nothing.

Links are followed only as long as they stay below the folder. Commands can change links at any moment, but they can
also do themselves whatever that would gain them.
"""

import asyncio
import errno
import os
import posixpath
import secrets
import shutil
import stat
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from tumbler.contracts.sandbox_files import EntryKind, FileEntry
from tumbler.errors import PolicyDenied
from tumbler_backends.sandbox.process.owners import remove_tree

__all__ = ["ProcessFiles"]

Result = TypeVar("Result")

_PIECE: Final = 1 << 18
_KINDS: Final[dict[int, EntryKind]] = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}


class ProcessFiles:
    """The tree below `root`, seen as `/`; an absolute path that begins with `root` itself is taken as that."""

    def __init__(self, root: Path, workdir: str, staging: Path) -> None:
        """Serve `root`; files are written in `staging` first, on the same file system and out of sight."""
        self._root = root
        self._workdir = workdir
        self._staging = staging

    def locate(self, path: str, *, follow: bool = True) -> Path:
        """Return the place of a path on this machine; raise `PolicyDenied` for one outside of the sandbox."""
        if "\0" in path:
            raise ValueError(f"embedded NUL in the path {path!r}")
        own = f"{self._root}/"
        inside = path.removeprefix(own) if path.startswith(own) else posixpath.join(self._workdir, path).lstrip("/")
        plain = self._root / inside
        name = posixpath.basename(posixpath.normpath(inside))
        if follow or name in ("", ".", ".."):
            place = Path(os.path.realpath(plain))
        else:
            place = Path(os.path.realpath(plain.parent)) / name
        if place != self._root and not place.is_relative_to(self._root):
            raise PolicyDenied(
                f"{path!r} leads out of the sandbox: use a path below its folder, without links out of it"
            )
        return place

    def inside(self, place: Path) -> str:
        """Return a place's path as the sandbox's methods name it."""
        return "/" if place == self._root else f"/{place.relative_to(self._root)}"

    def read(self, path: str, limit: int) -> bytes:
        """Read a regular file of at most `limit` bytes."""
        with self._open(path) as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise OSError(errno.EFBIG, f"longer than the limit of {limit} bytes", path)
        return content

    def write(self, path: str, content: bytes, mode: int) -> None:
        """Write a file in one step, parents made."""
        temporary = self._staging / secrets.token_hex(8)
        try:
            temporary.write_bytes(content)
            temporary.chmod(mode)
            self._appear(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    async def read_stream(self, path: str, offset: int) -> AsyncIterator[bytes]:
        """Yield a file in pieces."""
        with self._open(path) as file:
            file.seek(offset)
            while piece := await asyncio.to_thread(file.read, _PIECE):
                yield piece

    async def write_stream(self, path: str, pieces: AsyncIterable[bytes], mode: int) -> None:
        """Write a file from pieces; it appears only when it is whole."""
        temporary = self._staging / secrets.token_hex(8)
        try:
            with temporary.open("wb") as file:
                async for piece in pieces:
                    await asyncio.to_thread(file.write, piece)
            temporary.chmod(mode)
            self._appear(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def stat(self, path: str) -> FileEntry:
        """Describe one entry; a link in the last place is not followed."""
        return self._entry(self.locate(path, follow=False), path)

    def list(self, path: str, depth: int) -> list[FileEntry]:
        """Return what a folder holds, sorted by path."""
        found: list[FileEntry] = []
        waiting = [(self.locate(path), 1)]
        while waiting:
            folder, level = waiting.pop()
            for name in _names(folder, path):
                with suppress(FileNotFoundError):  # removed meanwhile
                    entry = self._entry(folder / name, path)
                    found.append(entry)
                    if entry.kind == "directory" and level < depth:
                        waiting.append((folder / name, level + 1))
        return sorted(found, key=lambda entry: entry.path)

    def mkdir(self, path: str, *, parents: bool, exist_ok: bool) -> None:
        """Make a folder."""
        _named(path, lambda: self.locate(path).mkdir(parents=parents, exist_ok=exist_ok))

    def move(self, source: str, destination: str) -> None:
        """Rename a file or folder, parents made."""
        origin, target = self.locate(source, follow=False), self.locate(destination, follow=False)
        _named(source, origin.lstat)
        _make_parents(target, destination)
        _named(destination, lambda: origin.rename(target))

    def remove(self, path: str, *, recursive: bool) -> None:
        """Remove one entry, or a folder with all in it."""
        place = self.locate(path, follow=False)
        if place == self._root:
            raise PolicyDenied("the sandbox's own root cannot be removed; delete the sandbox instead")
        if not stat.S_ISDIR(_named(path, place.lstat).st_mode):
            _named(path, place.unlink)
        elif recursive:
            remove_tree(place)
        else:
            _named(path, place.rmdir)

    def size(self) -> int:
        """Return how many bytes the sandbox's files take."""
        total = 0
        for folder, _, names in os.walk(self._root):
            for name in names:
                with suppress(OSError):
                    total += (Path(folder) / name).lstat().st_size
        return total

    def copy(self, target: Path) -> None:
        """Copy the whole tree, links as links; what is neither file nor folder nor link is left out."""

        def special(folder: str, names: list[str]) -> list[str]:
            kinds = {name: stat.S_IFMT((Path(folder) / name).lstat().st_mode) for name in names}
            return [name for name, kind in kinds.items() if kind not in _KINDS]

        shutil.copytree(self._root, target, symlinks=True, ignore=special)

    def _appear(self, temporary: Path, path: str) -> None:
        place = self.locate(path, follow=False)
        if place == self._root or path.endswith(("/", "/.")):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        _make_parents(place, path)
        _named(path, lambda: temporary.rename(place))

    def _open(self, path: str) -> BinaryIO:
        # A pipe in the file's place must not block.
        place = self.locate(path)
        descriptor = _named(path, lambda: os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC))
        kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
        if kind == stat.S_IFREG:
            return os.fdopen(descriptor, "rb")
        os.close(descriptor)
        if kind == stat.S_IFDIR:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        raise OSError(errno.EINVAL, "not a regular file", path)

    def _entry(self, place: Path, path: str) -> FileEntry:
        status = _named(path, place.lstat)
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "other")
        return FileEntry(
            path=self.inside(place),
            kind=kind,
            size=status.st_size,
            mode=stat.S_IMODE(status.st_mode),
            modified=status.st_mtime,
            owner=str(status.st_uid),
            group=str(status.st_gid),
            target=str(place.readlink()) if kind == "symlink" else None,
        )


def _names(folder: Path, path: str) -> list[str]:
    return _named(path, lambda: os.listdir(folder))  # noqa: PTH208  # names, as the system gives them


def _make_parents(place: Path, path: str) -> None:
    try:
        _named(path, lambda: place.parent.mkdir(parents=True, exist_ok=True))
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None


def _named(path: str, act: Callable[[], Result]) -> Result:
    """Return what `act` does; its errors name the path as the caller gave it."""
    try:
        return act()
    except OSError as error:
        error.filename = path
        raise
