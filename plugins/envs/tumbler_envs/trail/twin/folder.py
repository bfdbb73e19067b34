"""The twin's one folder: names, bytes, and which bytes are archives; knows no command."""

from collections.abc import Mapping

from tumbler_envs.trail.layout import WORKDIR, Packed
from tumbler_envs.trail.twin.grammar import UnsupportedError

__all__ = ["Folder"]

_MAX_BYTES = 1 << 16
"""Of one file that the agent writes; appending in a circle would grow without bound."""


_MAX_NAME = 255
"""Bytes; file systems refuse longer names."""


class Folder:
    """Files by name. The empty name is the folder itself."""

    def __init__(self, files: Mapping[str, bytes], archives: Mapping[bytes, Packed]) -> None:
        """Start with the files; `archives` tells what each archive's bytes hold."""
        self._files = dict(files)
        self._archives = archives

    def copy(self) -> "Folder":
        """Return a folder with the same files."""
        return Folder(self._files, self._archives)

    def __contains__(self, name: str) -> bool:
        """Return whether there is a file of this name."""
        return name in self._files

    def name(self, path: str) -> str:
        """Return the name that a path leads to, whether or not it exists."""
        if path in (WORKDIR, f"{WORKDIR}/", ".", "./"):
            return ""
        name = path.removeprefix(f"{WORKDIR}/").removeprefix("./")
        if name in ("", ".", "..") or "/" in name or len(name) > _MAX_NAME:
            raise UnsupportedError
        return name

    def names(self) -> list[str]:
        """Return all names as `ls` sorts and shows them."""
        return sorted(name for name in self._files if not name.startswith("."))

    def files(self) -> dict[str, bytes]:
        """Return all files: name → bytes."""
        return dict(self._files)

    def read(self, name: str) -> bytes | None:
        """Return the file's bytes, or None."""
        return self._files.get(name)

    def write(self, name: str, data: bytes) -> None:
        """Put a file in the place of what was there."""
        if len(data) > _MAX_BYTES:
            raise UnsupportedError
        self._files[name] = data

    def unpack(self, name: str) -> Packed | None:
        """Return what the archive of this name holds; None if the file is no archive."""
        data = self._files[name]
        if data in self._archives:
            return self._archives[data]
        if b"\0" in data or len(data) >= 512:
            raise UnsupportedError  # tar reads archives that are glued together, and searches long files
        return None
