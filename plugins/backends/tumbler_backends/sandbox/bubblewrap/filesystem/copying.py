"""Copy a folder that untrusted code may be changing, marks of the overlay file system included.

Everything is reached from a descriptor of its folder and no link is followed, so a race can only
spoil the copy. File contents are shared with the original where the file system can.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from tumbler_backends.sandbox.bubblewrap.ownership.removal import remove_below
from tumbler_backends.sandbox.posix.opening import opened

__all__ = ["MAX_DEPTH", "copy_tree", "measure_tree"]

MAX_DEPTH: Final = 128
"""Deeper folders are refused: each level holds two descriptors."""
_FICLONE: Final = 0x4004_9409
_CHUNK: Final = 1 << 24
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MODE: Final = 0o1777


@dataclass
class _Copy:
    """One run: what is known of the files copied so far."""

    store: int
    """A folder in which files with several names have one more while the run lasts."""
    links: dict[tuple[int, int], str] = field(default_factory=dict)
    """Device and inode → the copy's name in `store`."""
    size: int = 0


def copy_tree(source: int, target: int) -> int:
    """Copy what the folder `source` holds into the empty folder `target`, both descriptors; return the bytes.

    Raises `OSError`: `ENOSPC` for a full disk, `ENAMETOOLONG` past a depth of 128.
    """
    store = f".tumbler-links-{secrets.token_hex(8)}"
    os.mkdir(store, 0o700, dir_fd=target)
    try:
        with opened(os.open(store, _FOLDER, dir_fd=target)) as folder:
            run = _Copy(store=folder)
            _copy_folder(source, target, run, 0)
    finally:
        remove_below(store, target)
    return run.size


def measure_tree(folder: int, depth: int = 0) -> int:
    """Return the bytes that the files below an open folder take on the disk; what cannot be read counts nothing."""
    size = 0
    for name in _names(folder):
        with contextlib.suppress(OSError):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            size += status.st_blocks * 512 // max(1, status.st_nlink if stat.S_ISREG(status.st_mode) else 1)
            if stat.S_ISDIR(status.st_mode) and depth < MAX_DEPTH:
                with opened(os.open(name, _FOLDER, dir_fd=folder)) as below:
                    size += measure_tree(below, depth + 1)
    return size


def _copy_folder(source: int, target: int, run: _Copy, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise OSError(errno.ENAMETOOLONG, f"folders deeper than {MAX_DEPTH} levels cannot be copied")
    for name in _names(source):
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            _copy_entry(name, source, target, run, depth)


def _copy_entry(name: str, source: int, target: int, run: _Copy, depth: int) -> None:
    status = os.stat(name, dir_fd=source, follow_symlinks=False)
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFDIR:
        with opened(os.open(name, _FOLDER, dir_fd=source)) as below:
            os.mkdir(name, 0o700, dir_fd=target)
            with opened(os.open(name, _FOLDER, dir_fd=target)) as copy:
                _copy_folder(below, copy, run, depth + 1)
                _copy_marks(below, copy)
                os.fchmod(copy, stat.S_IMODE(status.st_mode) & _MODE)
                os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif kind == stat.S_IFREG:
        _copy_file(name, source, target, run)
    elif kind == stat.S_IFLNK:
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    elif kind == stat.S_IFCHR and status.st_rdev == 0:  # the overlay's mark of a removed file
        os.mknod(name, stat.S_IFCHR, 0, dir_fd=target)
    elif kind == stat.S_IFIFO:
        os.mkfifo(name, stat.S_IMODE(status.st_mode), dir_fd=target)


def _copy_file(name: str, source: int, target: int, run: _Copy) -> None:
    with opened(os.open(name, _READ, dir_fd=source)) as reading:
        status = os.fstat(reading)
        if not stat.S_ISREG(status.st_mode):  # replaced meanwhile
            return
        identity = (status.st_dev, status.st_ino)
        if (known := run.links.get(identity)) is not None:
            os.link(known, name, src_dir_fd=run.store, dst_dir_fd=target, follow_symlinks=False)
            return
        with opened(os.open(name, _CREATE, 0o600, dir_fd=target)) as writing:
            _copy_content(reading, writing, status.st_size)
            _copy_marks(reading, writing)
            os.fchmod(writing, stat.S_IMODE(status.st_mode) & _MODE)
            os.utime(writing, ns=(status.st_atime_ns, status.st_mtime_ns))
            if status.st_nlink > 1:
                run.links[identity] = linked = str(len(run.links))
                os.link(name, linked, src_dir_fd=target, dst_dir_fd=run.store, follow_symlinks=False)
        run.size += status.st_blocks * 512


def _copy_content(reading: int, writing: int, size: int) -> None:
    """Share the content where the file system can; else copy it, and leave its holes as holes."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(writing, _FICLONE, reading)
        return
    for begin, end in _pieces(reading, size):
        os.lseek(writing, begin, os.SEEK_SET)
        os.lseek(reading, begin, os.SEEK_SET)
        left = end - begin
        while left > 0 and (count := os.sendfile(writing, reading, None, min(left, _CHUNK))) > 0:
            left -= count
    os.truncate(writing, size)


def _pieces(reading: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield where data begins and ends."""
    end = 0
    while end < size:
        try:
            begin = os.lseek(reading, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        end = min(size, os.lseek(reading, begin, os.SEEK_HOLE))
        yield begin, end


def _copy_marks(source: int, target: int) -> None:
    """Copy extended attributes; those that this user may not set are left out."""
    try:
        names = os.listxattr(source)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return
        raise
    for name in names:
        if name.startswith(("trusted.overlay.", "user.")):
            os.setxattr(target, name, os.getxattr(source, name))


def _names(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]
