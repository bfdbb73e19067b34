"""Limit and count what a sandbox uses through cgroups, v1 or v2, where they are writable."""

import os
import re
import signal
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tumbler.contracts.sandbox import Resources

__all__ = ["Cgroup", "CgroupParent", "find_parents", "kill_and_remove", "kill_until_gone", "move"]

_CONTROLLERS: Final = ("pids", "memory", "cpu", "freezer")
_PERIOD_MICROSECONDS: Final = 100_000
_ATTEMPTS: Final = 100
_PAUSE_S: Final = 0.02
_UNIFIED: Final = 2
_MEMORY_USED: Final = ("memory.usage_in_bytes", "memory.max_usage_in_bytes")
_SWAP: Final = ("memory.swap.max", "memory.memsw.limit_in_bytes")
_OOM_KILLS: Final = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class CgroupParent:
    """A folder below which cgroups can be made, and the controllers that work there."""

    folder: Path
    controllers: frozenset[str]
    version: int


def find_parents(cgroups: str, mounts: str) -> list[CgroupParent]:
    """Return where this process may make cgroups; each controller occurs at most once.

    The new cgroups lie below the process's own, so that its own limits go on to hold; on v2, where
    a cgroup with processes has no controllers for its children, below the nearest ancestor that
    hands pids and memory down.

    Args:
        cgroups: the content of `/proc/self/cgroup`.
        mounts: the content of `/proc/self/mountinfo`.
    """
    own = {}
    for line in cgroups.splitlines():
        _, controllers, path = line.split(":", 2)
        own.update(dict.fromkeys(controllers.split(","), path))
    parents = []
    for kind, options, root, mount in _cgroup_mounts(mounts):
        if kind == "cgroup2":
            parents += _unified_parent(mount, _below(mount, root, own.get("", "/")))
            continue
        found = frozenset(options.split(",")).intersection(_CONTROLLERS, own)
        if found:
            folder = _below(mount, root, own[min(found)])
            parents.append(CgroupParent(folder=folder, controllers=found, version=1))
    return parents


class Cgroup:
    """One sandbox's cgroup: a folder in each hierarchy."""

    def __init__(self, folders: Mapping[Path, CgroupParent], resources: Resources) -> None:
        """Make the folders and set the limits; a hierarchy without a limit is left alone."""
        limits = {folder: _limits(parent, resources) for folder, parent in folders.items()}
        self._folders = {folder: folders[folder] for folder in limits if limits[folder]}
        for folder in self._folders:
            folder.mkdir(exist_ok=True)
            for name, value in limits[folder]:
                _set(folder / name, value)

    def join(self, pid: int) -> None:
        """Move a process in; its children follow."""
        for folder in self._folders:
            move(pid, folder)

    def oom_kills(self) -> int:
        """Return how many processes the kernel killed here for want of memory."""
        found = self._folder_of("memory")
        if found is None:
            return 0
        folder, version = found
        kills = _OOM_KILLS.search(_content(folder / ("memory.events" if version == _UNIFIED else "memory.oom_control")))
        return int(kills[1]) if kills else 0

    def memory(self) -> tuple[int | None, int | None]:
        """Return the bytes used now, and the most that were ever used; None where that is not known."""
        found = self._folder_of("memory")
        if found is None:
            return None, None
        folder, version = found
        names = ("memory.current", "memory.peak") if version == _UNIFIED else _MEMORY_USED
        now, most = (_content(folder / name).strip() for name in names)
        return int(now) if now else None, int(most) if most else None

    def members(self) -> list[int] | None:
        """Return the pids of the processes in it; None where no hierarchy tells."""
        for folder in self._folders:
            return [int(pid) for pid in _content(folder / "cgroup.procs").split()]
        return None

    def _folder_of(self, controller: str) -> tuple[Path, int] | None:
        for folder, parent in self._folders.items():
            if controller in parent.controllers:
                return folder, parent.version
        return None

    def remove(self) -> None:
        """Kill what is left and remove the folders."""
        kill_until_gone(self._folders)


def move(pid: int, folder: Path) -> None:
    """Move a process into a cgroup. Raises `ProcessLookupError` where it is gone."""
    # In one write and without buffers: this is on the way of every command.
    descriptor = os.open(folder / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, b"%d" % pid)
    finally:
        os.close(descriptor)


def kill_until_gone(folders: Iterable[Path]) -> bool:
    """Repeat `kill_and_remove` for as long as killed processes may take to disappear."""
    waiting = tuple(folders)
    for _ in range(_ATTEMPTS):
        if kill_and_remove(waiting):
            return True
        time.sleep(_PAUSE_S)
    return False


def kill_and_remove(folders: Iterable[Path]) -> bool:
    """Kill all processes in `folders` and those below, and remove the folders.

    Return False where a killed process is not yet gone: call again a little later.
    """
    gone = True
    for folder in folders:
        children = [child for child in folder.iterdir() if child.is_dir()] if folder.is_dir() else []
        gone = kill_and_remove(children) and gone
        gone = _remove_one(folder) and gone
    return gone


def _remove_one(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:  # busy: processes are left in it
        _kill_members(folder)
        return False
    return True


def _kill_members(folder: Path) -> None:
    if (folder / "freezer.state").exists():  # what is frozen does not die
        (folder / "freezer.state").write_text("THAWED")
    try:
        members = (folder / "cgroup.procs").read_text().split()
    except OSError:  # removed meanwhile
        return
    for member in members:
        try:
            os.kill(int(member), signal.SIGKILL)
        except ProcessLookupError:
            continue


def _limits(parent: CgroupParent, resources: Resources) -> list[tuple[str, str]]:
    limits = []
    unified = parent.version == _UNIFIED
    if "pids" in parent.controllers and resources.processes is not None:
        limits.append(("pids.max", str(resources.processes)))
    if "memory" in parent.controllers and resources.memory_bytes is not None:
        memory = str(resources.memory_bytes)
        names = (
            (("memory.max", memory), (_SWAP[0], "0"))
            if unified
            else (("memory.limit_in_bytes", memory), (_SWAP[1], memory))
        )
        limits += names
    if "cpu" in parent.controllers and resources.cpus is not None:
        quota = max(1000, round(resources.cpus * _PERIOD_MICROSECONDS))
        limits.append(("cpu.max", f"{quota} {_PERIOD_MICROSECONDS}") if unified else ("cpu.cfs_quota_us", str(quota)))
    return limits


def _content(file: Path) -> str:
    """Return what a control file says; nothing where this kernel has none of that name."""
    try:
        return file.read_text()
    except FileNotFoundError:
        return ""


def _set(file: Path, value: str) -> None:
    if file.name in _SWAP and not file.exists():  # kernels without swap accounting do not have the file
        return
    file.write_text(value)


def _cgroup_mounts(mounts: str) -> Iterable[tuple[str, str, str, Path]]:
    """Yield type, super options, root and mount point of each cgroup mount."""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind in {"cgroup", "cgroup2"}:
            fields = before.split(" ")
            yield kind, options, fields[3], Path(fields[4])


def _below(mount: Path, root: str, own: str) -> Path:
    """Return the folder of cgroup `own` where a mount shows the hierarchy from `root` on."""
    inside = own.removeprefix(root.rstrip("/")) if own.startswith(root) else ""
    return mount / inside.lstrip("/")


def _unified_parent(mount: Path, own: Path) -> list[CgroupParent]:
    folder = own
    while folder.is_relative_to(mount):
        control = folder / "cgroup.subtree_control"
        handed_down = frozenset(control.read_text().split() if control.exists() else ()).intersection(_CONTROLLERS)
        if {"pids", "memory"} <= handed_down:
            return [CgroupParent(folder=folder, controllers=handed_down, version=2)]
        folder = folder.parent
    return []
