"""Find the root file system that a spec's `image` names, and unpack archives once; starts nothing."""

import contextlib
import difflib
import errno
import fcntl
import hashlib
import os
import secrets
import tarfile
import threading
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tumbler.errors import CapabilityError, QuotaExceeded, SandboxError, SandboxStartFailed
from tumbler_backends.sandbox.bubblewrap.filesystem.archives import unpack
from tumbler_backends.sandbox.bubblewrap.ownership.removal import remove_tree
from tumbler_backends.sandbox.posix.opening import open_inside, opened

__all__ = ["ImageStore", "has_shell"]

_PARTIAL: Final = ".partial-"
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class ImageStore:
    """The images that have names, and a cache of unpacked archives that all owners of a root share."""

    def __init__(self, cache: Path, images: Mapping[str, Path]) -> None:
        """Keep archives unpacked below `cache`, each under the digest of its content."""
        self._cache = cache
        self._images = images
        self._ready: dict[str, tuple[tuple[int, ...], Path]] = {}
        self._lock = threading.Lock()

    def require(self, image: str) -> None:
        """Raise `CapabilityError` where `image` is neither a name nor a path that can hold a root file system."""
        path = self._path(image)
        if not path.is_absolute() or not path.exists():
            near = difflib.get_close_matches(image, self._images, n=3)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise CapabilityError(
                f"image {image!r} is not a folder with bin/sh, no tar archive, and no name in the setting `images` "
                f"(registries are for other backends){hint}"
            )
        if path.is_dir() and not has_shell(path):
            raise CapabilityError(f"image {image!r}: {path} is not a folder with bin/sh, so no command can run in it")

    def known(self, image: str) -> Path | None:
        """Return the root folder of an image that needs no unpacking, without waiting; else None."""
        path = self._path(image)
        if path.is_dir():
            return path
        found = self._ready.get(image)
        return found[1] if found is not None and found[0] == _identity(path) else None

    def resolve(self, image: str) -> Path:
        """Return the folder that holds the root file system of `image`; an archive is unpacked the first time.

        Raises `SandboxStartFailed` (phase `image`) for a broken archive and `QuotaExceeded` on a full disk.
        """
        with self._lock:
            if (known := self.known(image)) is not None:
                return known
            path = self._path(image)
            try:
                folder = self._unpacked(path)
                self._ready[image] = (_identity(path), folder)
            except (tarfile.TarError, ValueError, EOFError, zlib.error) as error:
                raise SandboxStartFailed(
                    f"image {image!r}: the archive {path} cannot be unpacked: {error}; "
                    "make it with `docker export` or `tar -C FOLDER -cf FILE .`",
                    "image",
                ) from error
            except SandboxError:
                raise
            except OSError as error:
                kind = QuotaExceeded if error.errno in _FULL else _start_failed
                raise kind(f"image {image!r} could not be unpacked below {self._cache}: {error}") from error
        return folder

    def _path(self, image: str) -> Path:
        return self._images.get(image, Path(image))

    def _unpacked(self, archive: Path) -> Path:
        name = _digest(archive)
        folder = self._cache / name
        if folder.is_dir():
            return folder
        self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(self._cache / f"{name}.lock"):
            for broken in self._cache.glob(f"{_PARTIAL}{name}-*"):  # its maker died: we hold the lock
                remove_tree(broken)
            if not folder.is_dir():
                self._unpack(archive, self._cache / f"{_PARTIAL}{name}-{secrets.token_hex(4)}", folder)
        return folder

    def _unpack(self, archive: Path, partial: Path, folder: Path) -> None:
        partial.mkdir(mode=0o755)
        try:
            count = unpack(archive, partial)
            if not has_shell(partial):
                saved = (partial / "manifest.json").exists()
                advice = "it was made by `docker save`: use `docker export`" if saved else "it is no root file system"
                raise ValueError(f"among its {count} entries there is no bin/sh; {advice}")
            partial.rename(folder)
        finally:
            if partial.exists():
                remove_tree(partial)


def has_shell(folder: Path) -> bool:
    """Tell whether /bin/sh exists where links are resolved inside the folder."""
    try:
        with opened(os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as root:
            os.close(open_inside(root, "/bin/sh", os.O_PATH))
    except OSError:
        return False
    return True


def _start_failed(message: str) -> SandboxStartFailed:
    return SandboxStartFailed(message, "image")


def _identity(archive: Path) -> tuple[int, ...]:
    status = archive.stat()
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _digest(archive: Path) -> str:
    with archive.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:40]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock against other processes; it goes with this process."""
    with opened(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
