"""Entries of E2B's file system as Tumbler's, and why an operation on a path failed; changes nothing."""

import datetime
import errno
import os
import posixpath
from typing import Final

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from e2b.envd.filesystem import filesystem_pb
from e2b.exceptions import NotEnoughSpaceException, NotFoundException

from tumbler.contracts.sandbox_files import EntryKind, FileEntry
from tumbler.errors import QuotaExceeded, SandboxError
from tumbler_backends.sandbox.e2b.wire import ERRORS, Wire, let_cancellation_pass

__all__ = ["PathErrors", "entry_of"]

_KINDS: Final[dict[filesystem_pb.FileType, EntryKind]] = {
    filesystem_pb.FileType.FILE: "file",
    filesystem_pb.FileType.DIRECTORY: "directory",
    filesystem_pb.FileType.SYMLINK: "symlink",
}


def entry_of(entry: filesystem_pb.EntryInfo | None) -> FileEntry:
    """Return an entry."""
    if entry is None:
        raise SandboxError("E2B described a file with nothing")
    modified = entry.modified_time
    return FileEntry(
        path=entry.path,
        kind="symlink" if entry.is_symlink else _KINDS.get(entry.type, "other"),
        size=entry.size,
        mode=entry.mode & 0o7777,
        modified=modified.to_datetime().replace(tzinfo=datetime.UTC).timestamp() if modified is not None else 0.0,
        owner=entry.owner,
        group=entry.group,
        target=entry.symlink_target if entry.has_field("symlink_target") else None,
    )


class PathErrors:
    """Tells what is wrong with a path, as E2B's answers do not say it in the words of `OSError`."""

    def __init__(self, wire: Wire) -> None:
        """Ask over this wire."""
        self._wire = wire

    async def lookup(self, path: str) -> FileEntry | None:
        """Return an entry; None where there is none, or none that can be seen."""
        try:
            answer = await self._wire.files.stat(
                filesystem_pb.StatRequest(path=path), headers=self._wire.headers, timeout_ms=self._wire.milliseconds
            )
        except ConnectError as error:
            known = await self._wire.translated(error)
            if self._wire.life.ended:
                raise known from error
            return None
        return entry_of(answer.entry)

    async def why(self, error: Exception, path: str, *, wants: EntryKind = "file") -> Exception:
        """Return the error for an operation that failed on `path`, where an entry of the kind `wants` was needed."""
        let_cancellation_pass(error)
        if self._wire.life.ended or not isinstance(error, ERRORS):
            return await self._wire.translated(error)
        if isinstance(error, NotEnoughSpaceException) or _code(error) is Code.RESOURCE_EXHAUSTED:
            return QuotaExceeded(f"the sandbox's disk is full: {path}")
        if (
            _code(error) is Code.PERMISSION_DENIED
            or getattr(error, "status_code", None) == 403
            or "403" in str(error)[:4]
        ):
            return _os_error(errno.EACCES, path)
        entry = await self.lookup(path)
        if entry is None:
            return await self.missing(path)
        if wants == "directory" and entry.kind != "directory":
            return _os_error(errno.ENOTDIR, path)
        if wants == "file" and entry.kind == "directory":
            return _os_error(errno.EISDIR, path)
        if isinstance(error, NotFoundException) or _code(error) is Code.NOT_FOUND:
            return _os_error(errno.ENOENT, path)
        translated = await self._wire.translated(error)
        return OSError(errno.EINVAL, f"E2B refused it: {translated}", path)

    async def missing(self, path: str) -> OSError:
        """Return why there is nothing at a path: the nearest thing above is no folder, or just nothing is there."""
        above = posixpath.dirname(path)
        while above not in {"", "/"}:
            entry = await self.lookup(above)
            if entry is not None:
                return _os_error(errno.ENOENT if entry.kind in {"directory", "symlink"} else errno.ENOTDIR, path)
            above = posixpath.dirname(above)
        return _os_error(errno.ENOENT, path)


def _code(error: Exception) -> Code | None:
    return error.code if isinstance(error, ConnectError) else None


def _os_error(number: int, path: str) -> OSError:
    """Return the builtin class of an error number."""
    return OSError(number, os.strerror(number), path)
