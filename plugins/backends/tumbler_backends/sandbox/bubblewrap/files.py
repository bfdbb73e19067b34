"""Read and write files of a sandbox from the host, with no way out of its folder.

The host's folder mirrors the sandbox's tree, and the kernel resolves every path as if that folder
were the root: an absolute link or `..` ends inside. Where `openat2` is missing, links are refused.
"""

import contextlib
import ctypes
import errno
import os
import posixpath
import secrets
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tumbler.errors import PolicyDenied

__all__ = ["SandboxFiles", "read_and_close"]

_OPENAT2: Final = 437
_IN_ROOT: Final = 0x10
_NO_MAGIC_LINKS: Final = 0x02
_ATTEMPTS: Final = 64
"""`openat2` answers EAGAIN while something is renamed in the tree."""
_CHUNK: Final = 1 << 20


class SandboxFiles:
    """The files of one sandbox; no process of it is needed."""

    def __init__(self, root: Path, staging: Path, workdir: str, writable: tuple[str, ...]) -> None:
        """Serve `writable`, absolute paths that exist under `root`; `staging` is beside it, unseen."""
        self._root = root
        self._staging = staging
        self._workdir = workdir
        self._writable = writable

    def write(self, path: str, content: bytes, mode: int) -> None:
        """Write a file in one step: a reader sees the old content or the new, and hard links keep the old."""
        target = self._locate(path)
        folder, name = posixpath.split(target)
        if name in {"", ".", ".."}:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        temporary = self._staging / secrets.token_hex(8)
        try:
            _write_new(temporary, content, mode)
            with self._opened_root() as root:
                parent = _make_folders(root, folder)
                try:
                    os.rename(temporary, name, dst_dir_fd=parent)
                finally:
                    os.close(parent)
        except OSError as error:
            error.filename, error.filename2 = path, None
            raise
        finally:
            temporary.unlink(missing_ok=True)

    def open(self, path: str) -> tuple[int, int]:
        """Open a regular file for reading; return the descriptor, which the caller closes, and the size."""
        target = self._locate(path)
        try:
            with self._opened_root() as root:
                # Non-blocking, because the sandboxed code may have put a named pipe here.
                descriptor = _open_inside(root, target, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
            return descriptor, _regular_size(descriptor)
        except OSError as error:
            error.filename = path
            raise

    def _locate(self, path: str) -> str:
        """Return the absolute path inside; raise `PolicyDenied` outside of what the sandbox can write."""
        if "\0" in path:
            raise ValueError(f"embedded NUL in the path {path!r}")
        absolute = posixpath.join(self._workdir, path)
        lexical = posixpath.normpath(absolute)
        if not any(lexical == folder or lexical.startswith(f"{folder}/") for folder in self._writable):
            raise PolicyDenied(
                f"{path!r} lies outside of what the host may touch in this sandbox: "
                f"use a path under {', '.join(self._writable)}"
            )
        return absolute

    @contextlib.contextmanager
    def _opened_root(self) -> Iterator[int]:
        descriptor = os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _write_new(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, mode)
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    finally:
        os.close(descriptor)


def read_and_close(descriptor: int, limit: int) -> bytes:
    """Return what a descriptor holds; raise `OSError` with `EFBIG` past `limit` bytes."""
    pieces, size = [], 0
    try:
        while piece := os.read(descriptor, min(_CHUNK, limit + 1 - size)):
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise OSError(errno.EFBIG, f"longer than the limit of {limit} bytes")
    finally:
        os.close(descriptor)
    return b"".join(pieces)


def _regular_size(descriptor: int) -> int:
    """Return the size of an open regular file; close anything else and raise."""
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        return status.st_size
    os.close(descriptor)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    raise OSError(errno.EINVAL, "not a regular file")


def _make_folders(root: int, folder: str) -> int:
    """Return a descriptor of `folder`, made with its parents where it is missing."""
    try:
        return _open_inside(root, folder, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        parent, name = posixpath.split(folder.rstrip("/"))
    above = _make_folders(root, parent)
    try:
        with contextlib.suppress(FileExistsError):  # made meanwhile, or a link that leads nowhere: opening it tells
            os.mkdir(name, 0o755, dir_fd=above)
        return os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    finally:
        os.close(above)


def _open_inside(root: int, path: str, flags: int) -> int:
    """Open an existing path, resolved by the kernel within `root`."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, _IN_ROOT | _NO_MAGIC_LINKS)
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


def _open_without_links(root: int, path: str, flags: int) -> int:
    """Walk down name by name and follow no link: the way of kernels before 5.6."""
    names = [name for name in posixpath.normpath(path).split("/") if name]
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
