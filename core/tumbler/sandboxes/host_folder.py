"""A folder of this machine that takes in untrusted names: nothing is written outside of it; knows no sandbox."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from tumbler.errors import PolicyDenied

__all__ = ["HostFolder", "safe_parts"]

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def safe_parts(name: str) -> tuple[str, ...]:
    """Return the parts of a relative path; raise `PolicyDenied` for one that could lead elsewhere."""
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or "\0" in name or ".." in parts or not parts:
        raise PolicyDenied(f"the name {name!r} could lead out of the folder that it belongs to")
    return parts


class HostFolder:
    """The folder, open. No link on the way to an entry is followed, and every file appears in one step."""

    def __init__(self, path: Path) -> None:
        """Open `path`, made with its parents where it is missing."""
        path.mkdir(parents=True, exist_ok=True)
        # The path itself is the caller's own word, so links on the way to it are followed.
        self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        """Return the folder itself."""
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Close it."""
        os.close(self._root)

    def folder(self, parts: Sequence[str]) -> None:
        """Make a folder with its parents."""
        with self._opened(parts):
            return

    @contextmanager
    def file(self, parts: Sequence[str], mode: int) -> Iterator[BinaryIO]:
        """Write a new file of the permissions `mode & 0o777`; it replaces an old one once the block ends well."""
        with self._opened(parts[:-1]) as parent:
            temporary = f".tumbler-{secrets.token_hex(8)}"
            try:
                with os.fdopen(os.open(temporary, _FILE, 0o600, dir_fd=parent), "wb") as file:
                    yield file
                    os.fchmod(file.fileno(), mode & 0o777)
                os.replace(temporary, parts[-1], src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=parent)
                raise

    def symlink(self, parts: Sequence[str], target: str) -> None:
        """Make a symbolic link; raise `PolicyDenied` where it would lead out of the folder."""
        if not _stays_inside(target, depth=len(parts) - 1):
            raise PolicyDenied(f"the link {'/'.join(parts)!r} leads out of its folder, to {target!r}")
        with self._opened(parts[:-1]) as parent:
            _make_room(parent, parts[-1])
            os.symlink(target, parts[-1], dir_fd=parent)

    def hardlink(self, parts: Sequence[str], source: Sequence[str]) -> None:
        """Give a regular file of the folder another name."""
        with self._opened(parts[:-1]) as parent, self._opened(source[:-1], make=False) as origin:
            if not stat.S_ISREG(os.stat(source[-1], dir_fd=origin, follow_symlinks=False).st_mode):
                raise PolicyDenied(f"the link {'/'.join(parts)!r} leads to {'/'.join(source)!r}, which is no file")
            _make_room(parent, parts[-1])
            os.link(source[-1], parts[-1], src_dir_fd=origin, dst_dir_fd=parent, follow_symlinks=False)

    @contextmanager
    def _opened(self, parts: Sequence[str], *, make: bool = True) -> Iterator[int]:
        current = os.dup(self._root)
        try:
            for part in parts:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(part, 0o755, dir_fd=current)
                try:
                    below = os.open(part, _FOLDER, dir_fd=current)
                except OSError as error:
                    if error.errno in (errno.ELOOP, errno.ENOTDIR):
                        raise PolicyDenied(f"{'/'.join(parts)!r} leads through {part!r}, which is no folder") from error
                    raise
                os.close(current)
                current = below
            yield current
        finally:
            os.close(current)


def _stays_inside(target: str, *, depth: int) -> bool:
    """Tell whether a link in a folder `depth` levels down can only lead inside.

    `..` may stand in front alone: behind another link it would mean that link's place.
    """
    if target.startswith("/") or "\0" in target or not target:
        return False
    parts = [part for part in target.split("/") if part not in ("", ".")]
    upwards = next((place for place, part in enumerate(parts) if part != ".."), len(parts))
    return upwards <= depth and ".." not in parts[upwards:]


def _make_room(parent: int, name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=parent)
