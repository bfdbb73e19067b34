"""Read, write and change the files of a sandbox from the host, with no way out of its tree.

The host holds the sandbox's tree by a folder or a descriptor, and resolves every path inside it.
"""

import contextlib
import errno
import itertools
import os
import posixpath
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tumbler.contracts.sandbox_files import EntryKind, FileEntry
from tumbler.errors import PolicyDenied
from tumbler_backends.sandbox.bubblewrap.ownership.removal import remove_below
from tumbler_backends.sandbox.posix.opening import TEMPORARY, folder_of, make_folders, open_inside, opened

__all__ = ["SandboxFiles", "StagedFile", "read_and_close"]

_CHUNK: Final = 1 << 20
_MAX_ENTRIES: Final = 200_000
_MAX_DEPTH: Final = 128
"""Each level holds a descriptor."""
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY
_KINDS: Final[dict[int, EntryKind]] = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}


class SandboxFiles:
    """The files of one sandbox; no process of it is needed."""

    def __init__(
        self,
        root: Path,
        staging: Path | None,
        workdir: str,
        writable: tuple[str, ...],
        reserved: tuple[str, ...] = (),
        user: str = "sandbox",
    ) -> None:
        """Serve `writable`, absolute paths that exist under `root`, except what lies in `reserved`.

        Args:
            root: the host's way to the sandbox's root folder.
            staging: a folder on the same mount that the sandbox does not see; None is beside the destination.
            workdir: where relative paths lie.
            writable: the places that exist on both sides.
            reserved: places that commands see differently.
            user: the name of who owns what this process owns.
        """
        self._root = root
        self._staging = staging
        self._workdir = workdir
        self._writable = writable
        self._reserved = reserved
        self._user = user

    def write(self, path: str, content: bytes, mode: int) -> None:
        """Write a file in one step: a reader sees the old content or the new, and hard links keep the old."""
        with self.stage(path, mode) as file:
            file.write(content)
            file.commit()

    @contextlib.contextmanager
    def stage(self, path: str, mode: int) -> Iterator["StagedFile"]:
        """Lend a new file that takes its place at `path` once it is committed, and else is removed."""
        target = self._locate(path)
        folder, name = posixpath.split(target)
        if name in {"", ".", ".."} or self._is_place(target):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        with _named(path), self._opened_root() as root, opened(make_folders(root, folder)) as parent:
            self._require_free(root, parent, name)
            if self._staging is None:
                file = StagedFile(parent, parent, name, mode)
            else:
                file = StagedFile(os.open(self._staging, os.O_PATH | os.O_CLOEXEC), parent, name, mode)
            try:
                yield file
            finally:
                file.close()
                if file.folder != parent:
                    os.close(file.folder)

    def open(self, path: str) -> tuple[int, int]:
        """Open a regular file for reading; return the descriptor, which the caller closes, and the size."""
        target = self._locate(path)
        with _named(path), self._opened_root() as root:
            # Non-blocking, because the sandboxed code may have put a named pipe here.
            descriptor = open_inside(root, target, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
            return descriptor, _regular_size(descriptor)

    def open_folder(self, path: str) -> int:
        """Open a folder for reading; the caller closes the descriptor."""
        target = self._locate(path, folder=True)
        with _named(path), self._opened_root() as root:
            return open_inside(root, target, _FOLDER)

    def entries(self, path: str, depth: int) -> list[FileEntry]:
        """Return the entries of a folder and, down to `depth`, of those below, sorted by path.

        Raises `OSError` with `EFBIG` past 200,000 entries; below 128 levels nothing is looked at.
        """
        place = self.absolute(path)
        found: list[FileEntry] = []
        with opened(self.open_folder(path)) as folder:
            self._collect(folder, place, min(depth, _MAX_DEPTH), found)
        return sorted(found, key=lambda entry: entry.path)

    def stat(self, path: str) -> FileEntry:
        """Describe one entry; a link in the last place is not followed."""
        target = self._locate(path, folder=True)
        flags = os.O_PATH | os.O_NOFOLLOW
        with _named(path), self._opened_root() as root, opened(open_inside(root, target, flags)) as entry:
            status = os.fstat(entry)
            link = os.readlink("", dir_fd=entry) if stat.S_ISLNK(status.st_mode) else None
        return self._entry(self.absolute(path), status, link)

    def mkdir(self, path: str, *, parents: bool, exist_ok: bool) -> None:
        """Make a folder."""
        target = self._locate(path, folder=True).rstrip("/")
        above, name = posixpath.split(target)
        with _named(path), self._opened_root() as root:
            if self._exists(root, target or "/"):
                if not exist_ok or not self._is_folder(root, target):
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
                return
            with opened(make_folders(root, above) if parents else folder_of(root, above)) as parent:
                self._require_free(root, parent, name)
                os.mkdir(name, 0o755, dir_fd=parent)

    def move(self, source: str, destination: str) -> None:
        """Rename an entry; parents are made, and a file at the destination is replaced."""
        ends = [self._locate_entry(path) for path in (source, destination)]
        with _named(source, destination), self._opened_root() as root, opened(folder_of(root, ends[0][0])) as old:
            os.stat(ends[0][1], dir_fd=old, follow_symlinks=False)
            with opened(make_folders(root, ends[1][0])) as new:
                self._require_free(root, old, ends[0][1])
                self._require_free(root, new, ends[1][1])
                os.rename(ends[0][1], ends[1][1], src_dir_fd=old, dst_dir_fd=new)

    def remove(self, path: str, *, recursive: bool) -> None:
        """Remove a file, a link, or a folder: an empty one or, with `recursive`, one with all in it."""
        above, name = self._locate_entry(path)
        with _named(path), self._opened_root() as root, opened(folder_of(root, above)) as parent:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            self._require_free(root, parent, name)
            if not stat.S_ISDIR(status.st_mode):
                os.unlink(name, dir_fd=parent)
            elif not recursive:
                os.rmdir(name, dir_fd=parent)
            else:
                remove_below(name, parent)

    def absolute(self, path: str) -> str:
        """Return a path as `FileEntry.path` tells it."""
        normal = posixpath.normpath(posixpath.join(self._workdir, path))
        return f"/{normal.lstrip('/')}"

    def _collect(self, folder: int, place: str, depth: int, found: list[FileEntry]) -> None:
        """Add what an open folder holds; what vanishes meanwhile is left out."""
        with os.scandir(folder) as entries:
            seen = itertools.islice(entries, _MAX_ENTRIES + 1 - len(found))
            names = [entry.name for entry in seen if not entry.name.startswith(TEMPORARY)]
        if len(found) + len(names) > _MAX_ENTRIES:
            raise OSError(errno.EFBIG, f"more than {_MAX_ENTRIES} entries: list folder by folder, or use a command")
        for name in names:
            path = posixpath.join(place, name)
            try:
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                link = os.readlink(name, dir_fd=folder) if stat.S_ISLNK(status.st_mode) else None
            except FileNotFoundError:
                continue
            found.append(self._entry(path, status, link))
            if depth > 1 and stat.S_ISDIR(status.st_mode):
                with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                    below = os.open(name, _FOLDER | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
                    with opened(below):
                        self._collect(below, path, depth - 1, found)

    def _entry(self, path: str, status: os.stat_result, link: str | None) -> FileEntry:
        return FileEntry(
            path=path,
            kind=_KINDS.get(stat.S_IFMT(status.st_mode), "other"),
            size=status.st_size,
            mode=stat.S_IMODE(status.st_mode),
            modified=status.st_mtime,
            owner=self._user if status.st_uid == os.geteuid() else "nobody",
            group=self._user if status.st_gid == os.getegid() else "nogroup",
            target=link,
        )

    def _exists(self, root: int, target: str) -> bool:
        try:
            os.close(open_inside(root, target, os.O_PATH | os.O_NOFOLLOW))
        except FileNotFoundError:
            return False
        return True

    def _is_folder(self, root: int, target: str) -> bool:
        try:
            os.close(folder_of(root, target))
        except OSError:
            return False
        return True

    def _require_free(self, root: int, parent: int, name: str) -> None:
        """Raise where `name` in an open folder holds the sandbox together, by whatever links it was reached.

        bwrap mounts these folders, and follows links in their place.
        """
        here = _identity(parent)
        for place in (*self._writable, *self._reserved):
            above, own = posixpath.split(place)
            while above:
                if own and (name == own or place in self._writable) and here == _identity_of(root, above):
                    raise PolicyDenied(f"{name!r} lies beside the folders that hold the sandbox together, in {above}")
                above, own = posixpath.split(above) if above != "/" else ("", "")

    def _is_place(self, target: str) -> bool:
        return posixpath.normpath(target) in {"/", *self._writable, *self._reserved}

    def _locate_entry(self, path: str) -> tuple[str, str]:
        """Return the folder and the name of an entry that may be moved or removed."""
        target = self._locate(path).rstrip("/")
        folder, name = posixpath.split(target)
        if name in {"", ".", ".."} or self._is_place(target):
            raise OSError(errno.EBUSY, "this folder holds the sandbox together and stays where it is", path)
        return folder, name

    def _locate(self, path: str, *, folder: bool = False) -> str:
        """Return the absolute path inside; raise `PolicyDenied` outside of what the sandbox can write.

        With `folder`, the folders above the writable places may be looked at too.
        """
        if "\0" in path:
            raise ValueError(f"embedded NUL in the path {path!r}")
        absolute = posixpath.join(self._workdir, path)
        lexical = self.absolute(path)
        if folder and any(_within(place, lexical) for place in self._writable):
            return absolute
        served = any(_within(lexical, place) for place in self._writable)
        if not served or any(_within(lexical, place) for place in self._reserved):
            raise PolicyDenied(
                f"{path!r} lies outside of what the host may touch in this sandbox: "
                f"use a path under {', '.join(self._writable)}"
                + (f", not in {', '.join(self._reserved)}" if self._reserved else "")
            )
        return absolute

    @contextlib.contextmanager
    def _opened_root(self) -> Iterator[int]:
        with opened(os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as descriptor:
            yield descriptor


class StagedFile:
    """A file that is being written, unseen, until it takes its place."""

    def __init__(self, folder: int, parent: int, name: str, mode: int) -> None:
        """Make it in `folder`, for the place `name` in `parent`: descriptors that stay the caller's."""
        self.folder = folder
        self._parent = parent
        self._name = name
        self._temporary: str | None = TEMPORARY + secrets.token_hex(8)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self._temporary, flags, 0o600, dir_fd=folder)
        os.fchmod(self._descriptor, mode)

    def write(self, piece: bytes) -> None:
        """Append."""
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def commit(self) -> None:
        """Let it take its place."""
        if self._temporary is not None:
            os.rename(self._temporary, self._name, src_dir_fd=self.folder, dst_dir_fd=self._parent)
            self._temporary = None

    def close(self) -> None:
        """Close it, and remove it where it was not committed."""
        os.close(self._descriptor)
        if self._temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._temporary, dir_fd=self.folder)


def read_and_close(descriptor: int, limit: int, path: str) -> bytes:
    """Return what a descriptor of the file `path` holds; raise `OSError` with `EFBIG` past `limit` bytes."""
    pieces, size = [], 0
    with opened(descriptor):
        while piece := os.read(descriptor, min(_CHUNK, limit + 1 - size)):
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise OSError(errno.EFBIG, f"longer than the limit of {limit} bytes", path)
    return b"".join(pieces)


@contextlib.contextmanager
def _named(path: str, other: str | None = None) -> Iterator[None]:
    """Let errors name the paths as the caller gave them."""
    try:
        yield
    except PolicyDenied:
        raise
    except OSError as error:
        error.filename = path
        if other is not None:  # None would be told as one of two paths
            error.filename2 = other
        raise


def _identity(folder: int) -> tuple[int, int]:
    status = os.fstat(folder)
    return status.st_dev, status.st_ino


def _identity_of(root: int, folder: str) -> tuple[int, int] | None:
    try:
        with opened(folder_of(root, folder)) as descriptor:
            return _identity(descriptor)
    except OSError:  # not there: then it is no folder that something lies in
        return None


def _within(path: str, place: str) -> bool:
    return path == place or path.startswith(f"{place.rstrip('/')}/")


def _regular_size(descriptor: int) -> int:
    """Return the size of an open regular file; close anything else and raise."""
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        return status.st_size
    os.close(descriptor)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    raise OSError(errno.EINVAL, "not a regular file")
