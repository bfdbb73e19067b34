"""Reads the files of a task's folder into memory; nothing outside of the folder is ever read."""

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from tumbler_envs.terminal.task import TaskFile

__all__ = ["digest_of", "read_text", "read_tree"]

_IGNORED = frozenset({".DS_Store", ".git", "__pycache__"})
_MAX_BYTES = 64 << 20
"""Of one folder: all of it is held in memory and written into each sandbox."""


def read_tree(folder: Path, *, within: Path) -> dict[str, TaskFile]:
    """Return the files below the folder by their paths from there; empty if there is no such folder.

    Raises `ValueError` for what a sandbox cannot be given: links out of `within`, special files, too much data.
    """
    files: dict[str, TaskFile] = {}
    size = 0
    for place, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if name not in _IGNORED)
        for name in sorted(set(names) - _IGNORED) + [name for name in folders if Path(place, name).is_symlink()]:
            path = Path(place, name)
            relative = path.relative_to(folder).as_posix()
            size += _size(path, within)
            if size > _MAX_BYTES:
                raise ValueError(f"{folder.name}/ holds more than {_MAX_BYTES >> 20} MiB; put it into an image")
            files[relative] = TaskFile(content=path.read_bytes(), executable=bool(path.stat().st_mode & stat.S_IXUSR))
    return files


def read_text(path: Path, *, within: Path) -> str | None:
    """Return a file's text, or None if there is no file."""
    if not path.exists():
        return None
    _size(path, within)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is no text in UTF-8: {error}") from error


def digest_of(files: Mapping[str, TaskFile]) -> str:
    """Return a hash of the files' names, contents and whether they can be run."""
    digest = hashlib.sha256()
    for path, file in sorted(files.items()):
        for part in (path.encode(), b"x" if file.executable else b"-", file.content):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _size(path: Path, within: Path) -> int:
    """Return the size of a regular file that lies within the folder, through all its links."""
    if not path.resolve().is_relative_to(within.resolve()):
        raise ValueError(f"{path.name} leads out of the task's folder, to {path.resolve()}")
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path.name} is a link to a folder or a special file; only plain files are laid out")
    return found.st_size


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
