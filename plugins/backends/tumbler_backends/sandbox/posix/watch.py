"""Watch folders for changes by inotify, from outside and without any process inside."""

import asyncio
import contextlib
import ctypes
import os
import posixpath
import resource
import struct
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final

from tumbler.contracts.sandbox_files import EventKind, FileEvent
from tumbler.errors import QuotaExceeded
from tumbler_backends.sandbox.posix.opening import TEMPORARY

__all__ = ["Watch"]

_EVENT: Final = struct.Struct("iIII")
_BUFFER: Final = 1 << 16
_MODIFY, _ATTRIB, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 2, 4, 8, 0x40, 0x80, 0x100, 0x200
_ONLYDIR: Final = 0x0100_0000
_IGNORED: Final = 0x8000
_IS_FOLDER: Final = 0x4000_0000
_MASK: Final = _MODIFY | _ATTRIB | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _ONLYDIR
_KINDS: Final[tuple[tuple[int, tuple[EventKind, ...]], ...]] = (
    (_CREATE, ("create",)),
    (_MODIFY, ("write",)),
    (_ATTRIB, ("chmod",)),
    (_DELETE, ("remove",)),
    (_MOVED_FROM, ("rename",)),
)
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_WAITING: Final = 100_000
"""Events that nobody takes are dropped from here on, the oldest first."""
_MAX_MOVES: Final = 1024
"""Moves whose second half may still come; it mostly does at once, or never."""
_SHARE_OF_DESCRIPTORS: Final = 8
"""One watch may hold the so-manieth part of the descriptors that this process may have."""


class Watch:
    """An asynchronous iterator of changes; use it as a context manager in the event loop."""

    def __init__(self, place: str, *, recursive: bool) -> None:
        """Watch nothing yet; `place` is the inner path of the folder that `add` is given."""
        self._place = place
        self._recursive = recursive
        self._descriptor = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise QuotaExceeded("no more folders can be watched: raise fs.inotify.max_user_instances")
        self._paths: dict[int, str] = {}
        self._folders: dict[int, int] = {}
        self._waiting: deque[FileEvent] = deque(maxlen=_MAX_WAITING)
        self._news = asyncio.Event()
        self._moves: deque[int] = deque(maxlen=_MAX_MOVES)
        self._failure: QuotaExceeded | None = None
        asyncio.get_running_loop().add_reader(self._descriptor, self._read)

    def __enter__(self) -> "Watch":
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching."""
        asyncio.get_running_loop().remove_reader(self._descriptor)
        for descriptor in (self._descriptor, *self._folders.values()):
            os.close(descriptor)

    def add(self, folder: int) -> None:
        """Watch an open folder, and take over its descriptor."""
        self._add(folder, self._place)

    async def __aiter__(self) -> AsyncIterator[FileEvent]:
        """Yield changes as they come."""
        while True:
            await self._news.wait()
            while self._waiting:
                yield self._waiting.popleft()
            if self._failure is not None:
                raise self._failure
            self._news.clear()

    def _add(self, folder: int, place: str) -> None:
        """Watch an open folder and, if asked for, all below it; take over the descriptor."""
        waiting = [(self._add_one(folder, place), place)]
        while waiting and self._recursive:
            folder, place = waiting.pop()
            with os.scandir(folder) as entries:
                names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
            for name in names:
                with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):  # changed meanwhile
                    below = posixpath.join(place, name)
                    waiting.append((self._add_one(os.open(name, _FOLDER, dir_fd=folder), below), below))

    def _add_one(self, folder: int, place: str) -> int:
        # The descriptor stays open: further folders are reached from it, and its inode stays in memory.
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _SHARE_OF_DESCRIPTORS
        if len(self._folders) >= limit:
            os.close(folder)
            raise QuotaExceeded(f"more than {limit} folders below {self._place}: watch fewer, or raise `ulimit -n`")
        watch = _libc.inotify_add_watch(self._descriptor, f"/proc/self/fd/{folder}".encode(), _MASK)
        if watch < 0:
            code = ctypes.get_errno()
            os.close(folder)
            raise QuotaExceeded(f"{place} cannot be watched: {os.strerror(code)}; raise fs.inotify.max_user_watches")
        self._paths[watch] = place
        if (known := self._folders.setdefault(watch, folder)) != folder:
            os.close(folder)
        return known

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, _BUFFER)
        except BlockingIOError:
            return
        position = 0
        while position < len(data):
            watch, mask, cookie, length = _EVENT.unpack_from(data, position)
            position += _EVENT.size + length
            name = os.fsdecode(data[position - length : position].rstrip(b"\0"))
            self._hear(watch, mask, cookie, name)
        if self._waiting:
            self._news.set()

    def _hear(self, watch: int, mask: int, cookie: int, name: str) -> None:
        place = self._paths.get(watch)
        if place is None:
            return
        if mask & _IGNORED:
            del self._paths[watch]
            os.close(self._folders.pop(watch))
            return
        if name and name.startswith(TEMPORARY):
            return
        path = posixpath.join(place, name) if name else place
        self._waiting.extend(FileEvent(kind=kind, path=path) for kind in self._kinds(mask, cookie))
        if self._recursive and mask & _IS_FOLDER and mask & (_CREATE | _MOVED_TO):
            self._enter(watch, place, name)

    def _kinds(self, mask: int, cookie: int) -> tuple[EventKind, ...]:
        if mask & _MOVED_FROM:
            self._moves.append(cookie)
        if mask & _MOVED_TO:
            # From elsewhere it came whole, as a file that the host has written.
            known = cookie in self._moves
            return ("create",) if known or mask & _IS_FOLDER else ("create", "write")
        return next((kinds for bit, kinds in _KINDS if mask & bit), ())

    def _enter(self, watch: int, place: str, name: str) -> None:
        """Watch a new folder, and tell what was made in it before the watch was in force."""
        known = set(self._folders)
        try:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):  # changed meanwhile
                self._add(os.open(name, _FOLDER, dir_fd=self._folders[watch]), posixpath.join(place, name))
        except QuotaExceeded as error:
            self._fail(error)
        except OSError as error:
            self._fail(QuotaExceeded(f"{place} cannot be watched any more: {error}"))
        for new in set(self._folders) - known:
            with os.scandir(self._folders[new]) as entries:
                missed = [posixpath.join(self._paths[new], entry.name) for entry in entries]
            self._waiting.extend(FileEvent(kind="create", path=path) for path in missed)

    def _fail(self, error: QuotaExceeded) -> None:
        """Tell whoever takes the events, once those before are taken."""
        self._failure = self._failure or error
        self._news.set()


_libc: Final = ctypes.CDLL(None, use_errno=True)
