"""Files of one sandbox, whole and in pieces, and its tree; knows no process but `chmod`."""

import asyncio
import contextlib
import errno
import os
import posixpath
import secrets
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

from connectrpc.errors import ConnectError
from e2b.envd.filesystem import filesystem_pb

from tumbler.contracts.sandbox_files import EntryKind, EventKind, FileEntry, FileEvent
from tumbler_backends.sandbox.e2b.entries import PathErrors, entry_of
from tumbler_backends.sandbox.e2b.wire import ERRORS, Wire, let_cancellation_pass
from tumbler_backends.sandbox.posix.opening import TEMPORARY

__all__ = ["E2bFiles"]

_PIECE: Final = 1 << 18
_USUAL_MODE: Final = 0o644
"""What E2B gives a file that is uploaded."""
_EVENTS: Final[dict[filesystem_pb.EventType, EventKind]] = {
    filesystem_pb.EventType.CREATE: "create",
    filesystem_pb.EventType.WRITE: "write",
    filesystem_pb.EventType.REMOVE: "remove",
    filesystem_pb.EventType.RENAME: "rename",
    filesystem_pb.EventType.CHMOD: "chmod",
}

ChangeMode = Callable[[str, int], Awaitable[None]]
"""Sets the permission bits of a path."""


class E2bFiles:
    """One sandbox's files; see `tumbler.contracts.sandbox_files.FilesSandbox`."""

    def __init__(self, wire: Wire, workdir: str, change_mode: ChangeMode) -> None:
        """Resolve relative paths in `workdir`."""
        self._wire = wire
        self._workdir = workdir
        self._change_mode = change_mode
        self._errors = PathErrors(wire)

    async def read(self, path: str, *, limit: int = 10 << 20) -> bytes:
        """Read a file of at most `limit` bytes."""
        content = bytearray()
        async with contextlib.aclosing(self.read_stream(path)) as pieces:
            async for piece in pieces:
                content += piece
                if len(content) > limit:
                    raise OSError(errno.EFBIG, f"longer than the limit of {limit} bytes", path)
        return bytes(content)

    async def read_stream(self, path: str, *, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield a file in pieces; E2B sends it from its beginning, whatever the offset."""
        place = self._place(path)
        skipped = 0
        async with self._calling(place), contextlib.AsyncExitStack() as stack:
            reader = await self._wire.sdk.files.read(place, format="stream", user=self._wire.user)
            await stack.enter_async_context(reader)
            async for piece in reader:
                rest = piece[max(0, offset - skipped) :]
                skipped += len(piece)
                if rest:
                    yield rest

    async def write(self, path: str, content: bytes, *, mode: int = _USUAL_MODE) -> None:
        """Write a file in one step."""

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(content), _PIECE):
                yield content[start : start + _PIECE]

        await self.write_stream(path, pieces(), mode=mode)

    async def write_stream(self, path: str, pieces: AsyncIterable[bytes], *, mode: int = _USUAL_MODE) -> None:
        """Write beside the destination, and move it there when it is whole: E2B itself writes in place."""
        place = self._place(path)
        if posixpath.basename(path) in {"", ".", ".."}:
            raise _os_error(errno.EISDIR, path)
        beside = posixpath.join(posixpath.dirname(place), f"{TEMPORARY}{secrets.token_hex(8)}")
        try:
            async with self._calling(place):
                await self._upload(beside, pieces)
            if mode != _USUAL_MODE:
                await self._change_mode(beside, mode)
            async with self._calling(place):
                await self._move(beside, place)
        except BaseException:
            await asyncio.shield(self._discard(beside))
            raise

    async def list(self, path: str = ".", *, depth: int = 1) -> Sequence[FileEntry]:
        """Return what a folder holds."""
        place = self._place(path)
        request = filesystem_pb.ListDirRequest(path=place, depth=depth)
        async with self._calling(place, wants="directory"):
            answer = await self._wire.files.list_dir(
                request, headers=self._wire.headers, timeout_ms=self._wire.milliseconds
            )
        return sorted((entry_of(entry) for entry in answer.entries), key=lambda entry: entry.path)

    async def stat(self, path: str) -> FileEntry:
        """Describe one entry."""
        place = self._place(path)
        async with self._calling(place, wants="other"):
            answer = await self._wire.files.stat(
                filesystem_pb.StatRequest(path=place), headers=self._wire.headers, timeout_ms=self._wire.milliseconds
            )
        return entry_of(answer.entry)

    async def mkdir(self, path: str, *, parents: bool = True, exist_ok: bool = True) -> None:
        """Make a folder."""
        place = self._place(path)
        if not parents:
            await self.stat(posixpath.dirname(place))
        async with self._wire.calling():
            try:
                await self._wire.files.make_dir(
                    filesystem_pb.MakeDirRequest(path=place),
                    headers=self._wire.headers,
                    timeout_ms=self._wire.milliseconds,
                )
            except ConnectError as error:
                let_cancellation_pass(error)
                entry = await self._errors.lookup(place)
                if entry is None:
                    raise await self._errors.why(error, place) from error
                if not exist_ok or entry.kind not in {"directory", "symlink"}:
                    raise _os_error(errno.EEXIST, path) from error

    async def move(self, source: str, destination: str) -> None:
        """Rename a file or folder."""
        origin, place = self._place(source), self._place(destination)
        async with self._wire.calling():
            try:
                await self._move(origin, place)
            except ConnectError as error:
                let_cancellation_pass(error)
                if await self._errors.lookup(origin) is None:
                    raise await self._errors.missing(origin) from error
                if await self._errors.lookup(place) is None:
                    if isinstance(why := await self._errors.missing(place), NotADirectoryError):
                        raise why from error
                    raise OSError(errno.EIO, f"E2B could not move it: {error.message}", destination) from error
                raise OSError(errno.ENOTEMPTY, f"something is in the way: {error.message}", destination) from error

    async def remove(self, path: str, *, recursive: bool = False) -> None:
        """Remove a file, a link or a folder; E2B itself removes whatever is there."""
        place = self._place(path)
        entry = await self.stat(place)
        if entry.kind == "directory" and not recursive and await self.list(place):
            raise _os_error(errno.ENOTEMPTY, path)
        async with self._calling(place, wants="other"):
            await self._wire.files.remove(
                filesystem_pb.RemoveRequest(path=place), headers=self._wire.headers, timeout_ms=self._wire.milliseconds
            )

    async def watch(self, path: str = ".", *, recursive: bool = False) -> AsyncGenerator[FileEvent, None]:
        """Yield the changes below a folder."""
        place = self._place(path)
        request = filesystem_pb.WatchDirRequest(path=place, recursive=recursive)
        async with self._calling(place, wants="directory"):
            _, events = await self._wire.opened(self._wire.files.watch_dir(request, headers=self._wire.stream_headers))
            async with contextlib.aclosing(events):
                async for event in events:
                    change = event.event.value if event.event is not None else None
                    if isinstance(change, filesystem_pb.FilesystemEvent) and change.type in _EVENTS:
                        yield FileEvent(kind=_EVENTS[change.type], path=posixpath.join(place, change.name))

    async def _upload(self, place: str, pieces: AsyncIterable[bytes]) -> None:
        broken: list[Exception] = []

        async def source() -> AsyncIterator[bytes]:
            try:
                async for piece in pieces:
                    if piece:
                        yield bytes(piece)
            except Exception as error:
                broken.append(error)
                raise

        try:
            await self._wire.sdk.files.write(place, source(), user=self._wire.user, use_octet_stream=True)
        except ERRORS:
            if broken:  # the clients tell of it in their own words
                raise broken[0] from None
            raise

    async def _move(self, origin: str, place: str) -> None:
        request = filesystem_pb.MoveRequest(source=origin, destination=place)
        await self._wire.files.move(request, headers=self._wire.headers, timeout_ms=self._wire.milliseconds)

    async def _discard(self, place: str) -> None:
        with contextlib.suppress(*ERRORS):  # the first error is the one that counts
            await self._wire.files.remove(
                filesystem_pb.RemoveRequest(path=place), headers=self._wire.headers, timeout_ms=self._wire.milliseconds
            )

    def _place(self, path: str) -> str:
        if "\0" in path:
            raise ValueError(f"embedded NUL in the path {path!r}")
        return posixpath.normpath(posixpath.join(self._workdir, path))

    @contextlib.asynccontextmanager
    async def _calling(self, place: str, *, wants: EntryKind = "file") -> AsyncIterator[None]:
        """Raise the builtin error for what E2B says about `place`."""
        async with self._wire.calling():
            try:
                yield
            except ERRORS as error:
                raise await self._errors.why(error, place, wants=wants) from error


def _os_error(number: int, path: str) -> OSError:
    """Return the builtin class of an error number."""
    return OSError(number, os.strerror(number), path)
