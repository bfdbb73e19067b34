"""Who owns which folder of sandboxes, and removing what dead owners left; starts no sandbox."""

import fcntl
import os
import secrets
import shutil
import stat
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tumbler.errors import SandboxUnavailable
from tumbler_backends.sandbox.process.tree import SANDBOX_MARK, Mark, kill_tree

__all__ = ["Owner", "claim", "default_root", "reap", "remove_tree"]

_LOCK: Final = "owner.lock"
"""Locked as long as the owner lives: the kernel gives it free, however the owner ends."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A claimed folder: all sandboxes of one backend instance lie in it."""

    name: str
    folder: Path
    lock: int

    def release(self) -> None:
        """Kill what is left and remove the folder."""
        kill_tree(mark_of(self.name))
        remove_tree(self.folder)
        os.close(self.lock)


def mark_of(owner: str) -> Mark:
    """Return what marks all processes of an owner's sandboxes."""
    return Mark(variable=SANDBOX_MARK, value=f"{owner}/")


def default_root() -> Path:
    """Return the folder of this user's sandboxes."""
    return Path(tempfile.gettempdir()) / f"tumbler-{os.getuid()}" / "processes"


def claim(root: Path) -> Owner:
    """Make a folder with a lock; raise `SandboxUnavailable` where that cannot be, or the root is another user's."""
    name = f"{os.getpid()}-{secrets.token_hex(4)}"
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = root.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
            raise PermissionError(f"{root} is not a folder that user {os.getuid()} alone can write to")
        # Hidden until it is locked, so that no other owner takes it for a dead one's.
        fresh = root / f".{name}"
        fresh.mkdir(mode=0o700)
        lock = os.open(fresh / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return Owner(name=name, folder=fresh.rename(root / name), lock=lock)
    except OSError as error:
        raise SandboxUnavailable(
            f"the sandbox folder {root} cannot be used: {error}; "
            "set `root` of the process backend to a folder of your own"
        ) from error


def reap(root: Path) -> int:
    """Kill and remove what dead owners left under `root`; return how many sandboxes that were."""
    reaped = 0
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        if folder.name.startswith("."):
            continue
        with suppress(OSError):  # removed by another process meanwhile, or its owner lives
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                reaped += sum(entry.is_dir() for entry in (folder / "boxes").iterdir())
                Owner(name=folder.name, folder=folder, lock=os.dup(lock)).release()
            finally:
                os.close(lock)
    return reaped


def remove_tree(folder: Path) -> None:
    """Remove a folder that commands filled; links are not followed. Raises `OSError` where something stays."""
    with suppress(OSError, RecursionError):
        shutil.rmtree(folder)
    if folder.exists():
        for command in (["chmod", "-R", "u+rwX", "--"], ["rm", "-rf", "--"]):
            subprocess.run([*command, str(folder)], check=False, capture_output=True)
    if folder.exists():
        raise OSError(f"the sandbox folder {folder} could not be removed completely")
