"""A container's files, seen and changed from this machine through its own root, with no way out of it.

The kernel resolves every path as if the container's root were the root, mounts and all, and follows no link of /proc.
What this process makes there belongs to the sandbox's user.
"""

import contextlib
import errno
import os
import posixpath
import secrets
import shutil
import stat
from collections.abc import Iterator, MutableSequence
from typing import Final

from tumbler.contracts.sandbox_files import EntryKind, FileEntry
from tumbler.errors import PolicyDenied
from tumbler_backends.sandbox.posix.opening import TEMPORARY, folder_of, open_inside, opened

__all__ = ["ContainerTree", "NewFile", "read_and_close"]

_CHUNK: Final = 1 << 20
_KERNEL_FOLDERS: Final = ("/proc", "/sys", "/sys/fs/cgroup", "/dev", "/dev/mqueue", "/dev/pts")
"""What is no files: this process has rights there that the sandbox has not."""
_KINDS: Final[dict[int, EntryKind]] = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}
_SHARED: Final = 0o1777
_PATH: Final = os.O_PATH | os.O_NOFOLLOW
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class ContainerTree:
    """The files of one container. Methods block; `root` stays the caller's."""

    def __init__(self, root: int, workdir: str, user: int, group: int) -> None:
        """Serve what lies below the open folder `root`; new files belong to `user` and `group`."""
        self._root = root
        self._workdir = workdir
        self._owner = (user, group)
        self._kernels = frozenset(_devices(root))

    def absolute(self, path: str) -> str:
        """Return a path as `FileEntry.path` tells it."""
        return f"/{posixpath.normpath(self._located(path)).lstrip('/')}"

    def open(self, path: str) -> tuple[int, int]:
        """Open a regular file for reading; return the descriptor, which the caller closes, and the size."""
        with _named(path), opened(open_inside(self._root, self._located(path), os.O_PATH)) as entry:
            status = self._checked(entry)
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not stat.S_ISREG(status.st_mode):  # opening a pipe or a device would already do something
                raise OSError(errno.EINVAL, "not a regular file")
            return os.open(f"/proc/self/fd/{entry}", os.O_RDONLY | os.O_CLOEXEC), status.st_size

    def open_folder(self, path: str) -> int:
        """Open a folder for reading; the caller closes the descriptor."""
        with _named(path):
            descriptor = open_inside(self._root, self._located(path), os.O_RDONLY | os.O_DIRECTORY)
            return self._kept(descriptor)

    @contextlib.contextmanager
    def new_file(self, path: str, mode: int) -> Iterator["NewFile"]:
        """Lend a new file that takes its place at `path` once it is committed, and else is removed."""
        folder, name = self._parted(path)
        if name in {"", ".", ".."}:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        with _named(path), opened(self._made(folder)) as parent:
            file = NewFile(parent, name, mode, self._owner)
            try:
                yield file
            finally:
                file.close()

    def write(self, path: str, content: bytes, mode: int) -> None:
        """Write a file in one step: a reader sees the old content or the new, and hard links keep the old."""
        with self.new_file(path, mode) as file:
            file.write(content)
            file.commit()

    def list(self, path: str, depth: int) -> list[FileEntry]:
        """Return the entries of a folder and, down to `depth`, of those below, sorted by path."""
        found: list[FileEntry] = []
        with opened(self.open_folder(path)) as folder:
            self._collect(folder, self.absolute(path), depth, found)
        return sorted(found, key=lambda entry: entry.path)

    def stat(self, path: str) -> FileEntry:
        """Describe one entry; a link in the last place is not followed."""
        with _named(path), opened(open_inside(self._root, self._located(path), _PATH)) as entry:
            status = self._checked(entry)
            link = os.readlink("", dir_fd=entry) if stat.S_ISLNK(status.st_mode) else None
            return _entry(self.absolute(path), status, link)

    def mkdir(self, path: str, *, parents: bool, exist_ok: bool) -> None:
        """Make a folder."""
        target = self._located(path).rstrip("/") or "/"
        with _named(path):
            with contextlib.suppress(FileNotFoundError), opened(open_inside(self._root, target, os.O_PATH)) as entry:
                if exist_ok and stat.S_ISDIR(self._checked(entry).st_mode):
                    return
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            above, name = posixpath.split(target)
            with opened(self._made(above) if parents else self._folder(above)) as parent:
                self._make(name, parent)

    def move(self, source: str, destination: str) -> None:
        """Rename an entry; parents are made, and a file at the destination is replaced."""
        (old, old_name), (new, new_name) = self._parted(source), self._parted(destination)
        with _named(source, destination), opened(self._folder(old)) as old_folder:
            os.stat(old_name, dir_fd=old_folder, follow_symlinks=False)
            with opened(self._made(new)) as new_folder:
                try:
                    os.rename(old_name, new_name, src_dir_fd=old_folder, dst_dir_fd=new_folder)
                except OSError as error:
                    if error.errno != errno.EXDEV:
                        raise
                    _copy_over(old_name, old_folder, new_name, new_folder)

    def remove(self, path: str, *, recursive: bool) -> None:
        """Remove a file, a link, or a folder: an empty one or, with `recursive`, one with all in it."""
        above, name = self._parted(path)
        if name in {"", ".", ".."}:
            raise OSError(errno.EBUSY, "name the entry itself", path)
        with _named(path), opened(self._folder(above)) as parent:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                os.unlink(name, dir_fd=parent)
            elif not recursive:
                os.rmdir(name, dir_fd=parent)
            else:
                _remove_below(name, parent)

    def own(self, folders: tuple[str, ...]) -> None:
        """Give folders to the sandbox's user, made where they are missing; /tmp stays everybody's."""
        for folder in folders:
            with opened(self._made(folder)) as descriptor:
                if stat.S_IMODE(os.fstat(descriptor).st_mode) != _SHARED:
                    os.chown(f"/proc/self/fd/{descriptor}", *self._owner)

    def disk_bytes(self, folders: tuple[str, ...]) -> int:
        """Return how much lies in the folders that are file systems of their own."""
        total = 0
        for folder in folders:
            with opened(open_inside(self._root, folder, os.O_RDONLY | os.O_DIRECTORY)) as descriptor:
                status = os.fstatvfs(descriptor)
                total += (status.f_blocks - status.f_bfree) * status.f_frsize
        return total

    def _collect(self, folder: int, place: str, depth: int, found: MutableSequence[FileEntry]) -> None:
        """Add what an open folder holds; what vanishes meanwhile is left out."""
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(TEMPORARY)]
        for name in names:
            path = posixpath.join(place, name)
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                link = os.readlink(name, dir_fd=folder) if stat.S_ISLNK(status.st_mode) else None
                found.append(_entry(path, status, link))
                if depth > 1 and stat.S_ISDIR(status.st_mode) and status.st_dev not in self._kernels:
                    with opened(os.open(name, _FOLDER, dir_fd=folder)) as below:
                        self._collect(below, path, depth - 1, found)

    def _located(self, path: str) -> str:
        if "\0" in path:
            raise ValueError(f"embedded NUL in the path {path!r}")
        return posixpath.join(self._workdir, path)

    def _parted(self, path: str) -> tuple[str, str]:
        folder, name = posixpath.split(self._located(path).rstrip("/"))
        return folder, name

    def _folder(self, folder: str) -> int:
        return self._kept(folder_of(self._root, folder))

    def _kept(self, descriptor: int) -> int:
        """Return the descriptor of a place that holds files; close any other and raise."""
        try:
            self._checked(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _checked(self, descriptor: int) -> os.stat_result:
        status = os.fstat(descriptor)
        if status.st_dev in self._kernels:
            raise PolicyDenied("the kernel's own folders are not served from outside of a sandbox")
        return status

    def _made(self, folder: str) -> int:
        """Return a descriptor of `folder`, made with its parents where it is missing."""
        try:
            return self._folder(folder)
        except FileNotFoundError:
            parent, name = posixpath.split(folder.rstrip("/"))
        with opened(self._made(parent)) as above:
            if name in {".", ".."}:  # never from a descriptor: the kernel would go above the root
                return self._folder(folder)
            with contextlib.suppress(FileExistsError):  # made meanwhile, or a link that leads nowhere: opening it tells
                self._make(name, above)
            return os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)

    def _make(self, name: str, parent: int) -> None:
        os.mkdir(name, 0o755, dir_fd=parent)
        os.chown(name, *self._owner, dir_fd=parent, follow_symlinks=False)


class NewFile:
    """A file that is being written, under another name, until it takes its place."""

    def __init__(self, folder: int, name: str, mode: int, owner: tuple[int, int]) -> None:
        """Make it in `folder`, a descriptor that stays the caller's."""
        self._folder = folder
        self._name = name
        self._temporary: str | None = TEMPORARY + secrets.token_hex(8)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self._temporary, flags, 0o600, dir_fd=folder)
        os.fchown(self._descriptor, *owner)
        os.fchmod(self._descriptor, mode)

    def write(self, piece: bytes) -> None:
        """Append."""
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def commit(self) -> None:
        """Let it take its place."""
        if self._temporary is not None:
            os.rename(self._temporary, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            self._temporary = None

    def close(self) -> None:
        """Close it, and remove it where it was not committed."""
        os.close(self._descriptor)
        if self._temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._temporary, dir_fd=self._folder)


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


def _devices(root: int) -> Iterator[int]:
    own = os.fstat(root).st_dev
    for folder in _KERNEL_FOLDERS:
        with contextlib.suppress(OSError), opened(open_inside(root, folder, os.O_PATH | os.O_DIRECTORY)) as entry:
            if (device := os.fstat(entry).st_dev) != own:
                yield device


def _entry(path: str, status: os.stat_result, link: str | None) -> FileEntry:
    return FileEntry(
        path=path,
        kind=_KINDS.get(stat.S_IFMT(status.st_mode), "other"),
        size=status.st_size,
        mode=stat.S_IMODE(status.st_mode),
        modified=status.st_mtime,
        owner=str(status.st_uid),
        group=str(status.st_gid),
        target=link,
    )


def _copy_over(old_name: str, old: int, new_name: str, new: int) -> None:
    """Move a regular file between two file systems, in one step for who looks at the destination."""
    source = os.open(old_name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=old)
    with opened(source):
        status = os.fstat(source)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EXDEV, "only files can be moved between these folders; use `mv`")
        file = NewFile(new, new_name, stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid))
        try:
            while piece := os.read(source, _CHUNK):
                file.write(piece)
            file.commit()
        finally:
            file.close()
    os.unlink(old_name, dir_fd=old)


def _remove_below(name: str, parent: int) -> None:
    """Remove a folder with all in it; no link is followed, also none that appears meanwhile."""
    try:
        shutil.rmtree(name, dir_fd=parent)
    except RecursionError:
        raise OSError(errno.ENAMETOOLONG, "the folder is too deep to be removed from outside; use `rm -r`") from None


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
