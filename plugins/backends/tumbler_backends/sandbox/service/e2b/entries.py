"""Entries and events of the file system as messages; touches no file."""

import datetime
import os
import posixpath
import stat
from typing import Final

from tumbler.contracts.sandbox_files import FileEntry, FileEvent
from tumbler_backends.sandbox.service.e2b.framing import Json

__all__ = ["entry_message", "event_message"]

_KINDS: Final = {"file": "FILE_TYPE_FILE", "directory": "FILE_TYPE_DIRECTORY", "symlink": "FILE_TYPE_SYMLINK"}


def entry_message(entry: FileEntry) -> Json:
    """Return an EntryInfo."""
    modified = datetime.datetime.fromtimestamp(entry.modified, datetime.UTC)
    message: Json = {
        "name": _clean(entry.name) or "/",
        "type": _KINDS.get(entry.kind, "FILE_TYPE_UNSPECIFIED"),
        "path": _clean(entry.path),
        "size": str(entry.size),
        "mode": entry.mode & 0o7777,
        "permissions": _permissions(entry),
        "owner": entry.owner,
        "group": entry.group,
        "modifiedTime": modified.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }
    if entry.target is not None:
        message["symlinkTarget"] = _clean(entry.target)
        message["isSymlink"] = True
    return message


def event_message(event: FileEvent, folder: str) -> Json:
    """Return a FilesystemEvent with its name relative to the watched folder."""
    return {"name": _clean(posixpath.relpath(event.path, folder)), "type": f"EVENT_TYPE_{event.kind.upper()}"}


def _permissions(entry: FileEntry) -> str:
    kind = {"directory": stat.S_IFDIR, "symlink": stat.S_IFLNK}.get(entry.kind, stat.S_IFREG)
    return stat.filemode(kind | entry.mode)


def _clean(name: str) -> str:
    """Return a name that JSON can carry: bytes that are no UTF-8 are replaced."""
    return os.fsencode(name).decode(errors="replace")
