"""Open paths below a folder so that no link, `..` or race leads out of it; knows no sandbox.

The kernel resolves every path as if the folder were the root: an absolute link or `..` ends
inside. Where `openat2` is missing, links are refused.
"""

import contextlib
import ctypes
import errno
import os
import posixpath
import struct
from collections.abc import Iterator
from typing import Final

__all__ = ["TEMPORARY", "folder_of", "make_folders", "open_inside", "opened"]

TEMPORARY: Final = ".tumbler-"
"""How the names of files begin that are not whole yet, where they must lie beside their destination."""
_OPENAT2: Final = 437
_IN_ROOT: Final = 0x10
_NO_MAGIC_LINKS: Final = 0x02
_NO_LINKS: Final = 0x04
_ATTEMPTS: Final = 64
"""`openat2` answers EAGAIN while something is renamed in the tree."""


@contextlib.contextmanager
def opened(descriptor: int) -> Iterator[int]:
    """Close a descriptor at the end."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_inside(root: int, path: str, flags: int, *, links: bool = True) -> int:
    """Open an existing path, resolved by the kernel within `root`; without `links`, a link on the way is `ELOOP`."""
    resolve = _IN_ROOT | _NO_MAGIC_LINKS | (0 if links else _NO_LINKS)
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, resolve)
    for _ in range(_ATTEMPTS):
        descriptor = _system_call(_OPENAT2, root, os.fsencode(path), how, len(how))
        if descriptor >= 0:
            return int(descriptor)
        code = ctypes.get_errno()
        if code in {errno.ENOSYS, errno.EPERM}:
            return _open_without_links(root, path, flags)
        if code != errno.EAGAIN:
            raise OSError(code, os.strerror(code))
    raise OSError(errno.EAGAIN, "the folder changes too fast to resolve a path in it")


def make_folders(root: int, folder: str) -> int:
    """Return a descriptor of `folder`, made with its parents where it is missing."""
    try:
        return folder_of(root, folder)
    except FileNotFoundError:
        parent, name = posixpath.split(folder.rstrip("/"))
    with opened(make_folders(root, parent)) as above:
        if name in {".", ".."}:  # never from a descriptor: the kernel would go above the root
            return folder_of(root, folder)
        with contextlib.suppress(FileExistsError):  # made meanwhile, or a link that leads nowhere: opening it tells
            os.mkdir(name, 0o755, dir_fd=above)
        return os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)


def folder_of(root: int, folder: str) -> int:
    """Return a descriptor of an existing folder, for calls with `dir_fd`."""
    return open_inside(root, folder or "/", os.O_PATH | os.O_DIRECTORY)


def _open_without_links(root: int, path: str, flags: int) -> int:
    """Walk down name by name and follow no link: the way of kernels before 5.6."""
    names = [name for name in posixpath.normpath(path).split("/") if name not in {"", "."}]
    current = os.dup(root)
    for position, name in enumerate(names):
        last = position == len(names) - 1
        step = flags if last else os.O_PATH | os.O_DIRECTORY
        try:
            below = os.open(name, step | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=current)
        finally:
            os.close(current)
        current = below
    return current


_system_call = ctypes.CDLL(None, use_errno=True).syscall
_system_call.restype = ctypes.c_long
