"""A folder of installed programs: each is built once, whole or not at all; knows no registry of packages."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["PackageCache", "default_cache"]

_DIGEST_CHARACTERS: Final = 16


def default_cache() -> Path:
    """Return the folder below the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "tumbler" / "agents"


class PackageCache:
    """Installed programs by name and by all that decides what is in them."""

    def __init__(self, folder: Path) -> None:
        """Keep them in `folder`."""
        self._folder = folder

    def find(self, name: str, key: Sequence[str]) -> Path | None:
        """Return the folder of an installed program; None where it is not there yet."""
        place = self._place(name, key)
        return place if place.is_dir() else None

    def provide(self, name: str, key: Sequence[str], build: Callable[[Path], None]) -> Path:
        """Return the folder of a program; `build` fills it at the first time. Blocks, also on other processes' builds.

        What `build` makes must not hold the path that it is given: the folder is renamed when it is whole.
        """
        place = self._place(name, key)
        if place.is_dir():
            return place
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._alone(place):
            if not place.is_dir():
                self._build(place, build)
        return place

    def _build(self, place: Path, build: Callable[[Path], None]) -> None:
        room = Path(tempfile.mkdtemp(prefix=".building-", dir=self._folder))
        try:
            target = room / place.name
            target.mkdir(mode=0o755)
            build(target)
            target.rename(place)
        finally:
            shutil.rmtree(room, ignore_errors=True)

    @contextmanager
    def _alone(self, place: Path) -> Iterator[None]:
        """Hold the lock of one program; the kernel lets go of it for whoever dies."""
        descriptor = os.open(place.with_name(f".{place.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _place(self, name: str, key: Sequence[str]) -> Path:
        digest = hashlib.sha256("\0".join(key).encode()).hexdigest()[:_DIGEST_CHARACTERS]
        return self._folder / f"{name}-{digest}"
