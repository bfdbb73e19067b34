"""What a backend sets up at its start: its folder, its cgroups, and what all its sandboxes share."""

import asyncio
import contextlib
import os
import shutil
from pathlib import Path
from typing import Final

from tumbler_backends.sandbox.bubblewrap.filesystem.layout import make_etc
from tumbler_backends.sandbox.bubblewrap.host import Host, Metrics
from tumbler_backends.sandbox.bubblewrap.limits.cgroups import CgroupParent, find_parents, kill_until_gone
from tumbler_backends.sandbox.bubblewrap.limits.seccomp import filter_descriptor
from tumbler_backends.sandbox.bubblewrap.ownership.owners import Owner, claim, new_owner_name
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings

__all__ = ["make_host", "take_ownership"]

_CGROUP_PREFIX: Final = "tumbler-"


def take_ownership(root: Path, name: str | None) -> tuple[Owner, dict[Path, CgroupParent]]:
    """Claim the folder of an owner, make its cgroups, and end what a dead predecessor left running."""
    # The cgroups are of this process, never of a name: another root may have an owner of the same name.
    own = new_owner_name()
    chosen = name or own
    parents = {parent.folder / f"{_CGROUP_PREFIX}{own}": parent for parent in _parents()}
    owner = claim(root, chosen, tuple(parents), named=name is not None)
    if owner.predecessor is not None:
        kill_until_gone(Path(folder) for folder in owner.predecessor.cgroups)
    return owner, _make_folders(parents)


def make_host(
    settings: BubblewrapSettings, program: str, folder: Path, cgroups: dict[Path, CgroupParent], metrics: Metrics
) -> Host:
    """Lay out what all sandboxes of one owner share."""
    etc = folder / "etc"
    with contextlib.suppress(FileNotFoundError):  # a predecessor's
        shutil.rmtree(etc)
    make_etc(etc)
    return Host(
        settings=settings,
        bwrap=program,
        folder=folder,
        etc=etc,
        cgroups=cgroups,
        seccomp=filter_descriptor(),
        starts=asyncio.Semaphore(settings.concurrent_starts or 2 * (os.cpu_count() or 1)),
        metrics=metrics,
    )


def _parents() -> list[CgroupParent]:
    try:
        return find_parents(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())
    except OSError:  # a kernel without cgroups
        return []


def _make_folders(parents: dict[Path, CgroupParent]) -> dict[Path, CgroupParent]:
    """Make this owner's cgroups; return those that could be made."""
    made = {}
    for folder, parent in parents.items():
        with contextlib.suppress(OSError):  # not writable by this user: rlimits remain
            folder.mkdir()
            made[folder] = parent
    return made
