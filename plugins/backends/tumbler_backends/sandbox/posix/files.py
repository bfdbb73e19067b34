"""Files of a cloud's sandbox by POSIX tools inside it, so that links lead where they lead there; knows no cloud.

Needs a shell, coreutils, and GNU find for `list` and `stat`.
"""

import errno
import os
import posixpath
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sequence
from typing import Final

from tumbler.contracts.sandbox import ExecResult
from tumbler.contracts.sandbox_files import EntryKind, FileEntry
from tumbler_backends.sandbox.posix.command import run_command
from tumbler_backends.sandbox.posix.file_scripts import (
    COMMIT,
    FAILURE,
    LIST,
    MKDIR,
    MOVE,
    READ,
    RECEIVE,
    REMOVE,
    STAT,
)
from tumbler_backends.sandbox.posix.spawner import Spawner

__all__ = ["PosixFiles"]

_PIECE: Final = 2 << 20
_WRITTEN: Final = 1 << 20
_LISTED: Final = 256 << 20
_PATIENCE_S: Final = 120.0
"""The bound of one step; a stream may have many."""
_FIELDS: Final = 8
_KINDS: Final[dict[bytes, EntryKind]] = {b"f": "file", b"d": "directory", b"l": "symlink"}
_ERRORS: Final = {
    2: errno.ENOENT,
    5: errno.EIO,
    13: errno.EACCES,
    17: errno.EEXIST,
    20: errno.ENOTDIR,
    21: errno.EISDIR,
    22: errno.EINVAL,
    28: errno.ENOSPC,
    39: errno.ENOTEMPTY,
}


class PosixFiles:
    """The files of one sandbox; relative paths lie in its working directory.

    Keeps `tumbler.contracts.sandbox_files.FilesSandbox` but for `watch`, and `read` and `write` of `Sandbox`.
    """

    def __init__(self, spawner: Spawner) -> None:
        """Work through processes that `spawner` starts."""
        self._spawner = spawner

    async def read(self, path: str, *, limit: int = 10 << 20) -> bytes:
        """Read a regular file of at most `limit` bytes; a longer one is `OSError` with `EFBIG`."""
        content = await self._read(path, 0, limit + 1)
        if len(content) > limit:
            raise OSError(errno.EFBIG, f"longer than the limit of {limit} bytes", path)
        return content

    async def write(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        """Write a file in one step, parents made; a link in the last place is replaced, not followed."""

        async def pieces() -> AsyncIterator[bytes]:
            yield content

        await self.write_stream(path, pieces(), mode=mode)

    async def list(self, path: str = ".", *, depth: int = 1) -> Sequence[FileEntry]:
        """Return what a folder holds, sorted by path."""
        if depth < 1:
            raise ValueError(f"a list goes at least 1 level down, not {depth}")
        place = posixpath.normpath(self._locate(path))
        result = await self._run(LIST, path, self._locate(path), str(depth))
        listed = self._locate(path).rstrip("/")
        entries = [_moved(entry, listed, place) for entry in _entries(result.stdout)]
        return sorted(entries, key=lambda entry: entry.path)

    async def stat(self, path: str) -> FileEntry:
        """Describe one entry; a link in the last place is not followed."""
        place = self._locate(path)
        result = await self._run(STAT, path, place)
        (entry,) = _entries(result.stdout)
        return _moved(entry, place.rstrip("/"), posixpath.normpath(place))

    async def mkdir(self, path: str, *, parents: bool = True, exist_ok: bool = True) -> None:
        """Make a folder."""
        await self._run(MKDIR, path, self._locate(path).rstrip("/"), _word(parents), _word(exist_ok))

    async def move(self, source: str, destination: str) -> None:
        """Rename a file or folder; a file at the destination is replaced, and missing parents are made."""
        places = (self._locate(place).rstrip("/") for place in (source, destination))
        await self._run(MOVE, f"{source} -> {destination}", *places)

    async def remove(self, path: str, *, recursive: bool = False) -> None:
        """Remove a file, a link or an empty folder; with `recursive`, a folder with all in it."""
        await self._run(REMOVE, path, self._locate(path).rstrip("/"), _word(recursive))

    async def read_stream(self, path: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield a file in pieces, each read by a process of its own."""
        while True:
            piece = await self._read(path, offset, _PIECE)
            if piece:
                yield piece
            if len(piece) < _PIECE:
                return
            offset += len(piece)

    async def write_stream(self, path: str, pieces: AsyncIterable[bytes], *, mode: int = 0o644) -> None:
        """Write a file from pieces, parents made; the file appears only when it is whole."""
        place = self._locate(path)
        folder, name = posixpath.split(place)
        if name in {"", ".", ".."}:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        half = posixpath.join(folder, f".tumbler-{secrets.token_hex(8)}")
        try:
            size = await self._receive(path, place, half, pieces, mode)
            await self._run(COMMIT, path, place, half, str(size))
        except BaseException:
            await self._spawner.settled(["rm", "-f", "--", half])
            raise

    async def _receive(self, path: str, place: str, half: str, pieces: AsyncIterable[bytes], mode: int) -> int:
        """Bring pieces into the file `half`; return how many bytes they were."""
        words = ["/bin/sh", "-c", RECEIVE, "sh", place, half, f"{mode:o}"]
        process = await self._spawner.launch(words, stdin=True)
        size = 0
        try:
            try:
                async for piece in pieces:
                    for start in range(0, len(piece), _WRITTEN):
                        await process.write_stdin(piece[start : start + _WRITTEN])
                    size += len(piece)
            except BrokenPipeError:  # refused: its exit code says why
                pass
            await process.close_stdin()
            exit_code = (await process.wait(_PATIENCE_S)).exit_code
        except BaseException:
            await process.kill_tree(0.0)
            raise
        finally:
            await process.abandon()
        _require(exit_code, process.record.stderr.since(0), path)
        return size

    async def _read(self, path: str, offset: int, size: int) -> bytes:
        result = await self._run(READ, path, self._locate(path), str(offset + 1), str(size), max_output=size)
        return result.stdout

    async def _run(self, script: str, path: str, *arguments: str, max_output: int = _LISTED) -> ExecResult:
        words = ["/bin/sh", "-c", script, "sh", *arguments]
        result = await run_command(self._spawner, words, timeout=_PATIENCE_S, max_output=max_output, cwd="/")
        if result.timed_out:
            raise TimeoutError(errno.ETIMEDOUT, f"took longer than {_PATIENCE_S:g} s in the sandbox", path)
        _require(result.exit_code, result.stderr, path)
        return result

    def _locate(self, path: str) -> str:
        if "\0" in path:
            raise ValueError(f"embedded NUL in the path {path!r}")
        return posixpath.join(self._spawner.cloud.workdir, path)


def _require(exit_code: int, said: bytes, path: str) -> None:
    """Raise the error that a script tells of."""
    if exit_code == 0:
        return
    number = _ERRORS.get(exit_code - FAILURE)
    if number is not None:
        message = "not a regular file" if number == errno.EINVAL else os.strerror(number)
        raise OSError(number, message, path)
    raise OSError(errno.EIO, f"exit code {exit_code} in the sandbox: {os.fsdecode(said).strip()}", path)


def _entries(listed: bytes) -> Iterator[FileEntry]:
    fields = listed.split(b"\0")
    for at in range(0, len(fields) - 1, _FIELDS):
        kind, size, mode, modified, owner, group, target, path = fields[at : at + _FIELDS]
        yield FileEntry(
            path=os.fsdecode(path),
            kind=_KINDS.get(kind, "other"),
            size=int(size),
            mode=int(mode, 8),
            modified=float(modified),
            owner=os.fsdecode(owner),
            group=os.fsdecode(group),
            target=os.fsdecode(target) if kind == b"l" else None,
        )


def _moved(entry: FileEntry, listed: str, place: str) -> FileEntry:
    """Return an entry with its path as callers write it, without `..` and doubled slashes."""
    rest = entry.path.removeprefix(listed).strip("/")
    values = {name: getattr(entry, name) for name in entry.__dataclass_fields__}
    return FileEntry(**{**values, "path": posixpath.join(place, rest) if rest else place})


def _word(flag: bool) -> str:
    return "yes" if flag else "no"
