"""Remove what dead owners left: processes, cgroups and folders; starts no sandbox."""

import contextlib
import os
import secrets
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from tumbler_backends.sandbox.bubblewrap.limits.cgroups import kill_until_gone
from tumbler_backends.sandbox.bubblewrap.ownership.owners import REAPED, OwnerRecord, locked, read_owner
from tumbler_backends.sandbox.bubblewrap.ownership.records import Record, read_records
from tumbler_backends.sandbox.bubblewrap.ownership.removal import remove_tree

__all__ = ["Reaped", "reap", "reap_owner"]


@dataclass(frozen=True, kw_only=True)
class Reaped:
    """What a sweep removed."""

    owners: int = 0
    sandboxes: int = 0

    def __add__(self, other: "Reaped") -> "Reaped":
        """Add two sweeps up."""
        return Reaped(owners=self.owners + other.owners, sandboxes=self.sandboxes + other.sandboxes)


def reap(root: Path) -> Reaped:
    """Reap every dead owner under `root`.

    Several processes may do this at once: whoever renames a folder removes it.
    """
    total = Reaped()
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        if folder.name.startswith(REAPED):
            remove_tree(folder)  # another sweep was interrupted, or is at it: both are harmless
        else:
            total += reap_owner(folder)
    return total


def reap_owner(folder: Path) -> Reaped:
    """Remove all that a dead owner left; of a named one only the sandboxes whose time is over."""
    try:
        with locked(folder):
            owner = read_owner(folder)
            if owner is None or not owner.is_dead():
                return Reaped()
            return _reap_named(folder, owner) if owner.named else _reap_all(folder, owner)
    except (FileNotFoundError, NotADirectoryError):  # another process was faster, or it is no owner's
        return Reaped()


def _reap_named(folder: Path, owner: OwnerRecord) -> Reaped:
    _kill_strays(folder)
    kill_until_gone(Path(group) for group in owner.cgroups)
    records = read_records(folder)
    over = [record for record in records if _is_over(record)]
    if len(over) == len(records):
        return _reap_all(folder, owner)
    for record in over:
        with contextlib.suppress(FileNotFoundError):
            remove_tree((folder / record.id).rename(folder.parent / f"{REAPED}{record.id}-{secrets.token_hex(4)}"))
    return Reaped(sandboxes=len(over))


def _reap_all(folder: Path, owner: OwnerRecord) -> Reaped:
    count = len(read_records(folder))
    _kill_strays(folder)
    mine = folder.rename(folder.parent / f"{REAPED}{folder.name}-{secrets.token_hex(4)}")
    kill_until_gone(Path(group) for group in owner.cgroups)
    remove_tree(mine)
    return Reaped(owners=1, sandboxes=count)


def _kill_strays(folder: Path) -> None:
    """Kill the first programs that wait for a bwrap which died with its owner, before it put them into a cgroup."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone meanwhile, or another user's
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if b"--block-fd" in words and any(word.startswith(os.fsencode(f"{folder}/")) for word in words):
                os.kill(int(entry.name), signal.SIGKILL)


def _is_over(record: Record) -> bool:
    return record.in_memory or time.time() >= record.expires
