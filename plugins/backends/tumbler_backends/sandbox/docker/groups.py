"""Cgroups below a container's own, one for each command: count, signal and kill what it started; v1 and v2."""

import contextlib
import os
import re
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tumbler.contracts.sandbox_control import SandboxUsage

__all__ = ["CommandGroup", "ContainerGroups", "find_groups"]

_TREE_KINDS: Final = ("pids", "freezer", "name=systemd")
"""The v1 hierarchies that a command's own group may lie in, the best first: `pids` can also forbid forks."""
_MEMBERS: Final = "cgroup.procs"
_ATTEMPTS: Final = 400
_PAUSE_S: Final = 0.005
_WHOLE: Final = re.compile(r"^(\d+)$", re.MULTILINE)
_OOM_KILLS: Final = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class ContainerGroups:
    """Where a container's cgroups lie on this machine."""

    folders: Mapping[str, Path]
    """Controllers, as /proc/PID/cgroup names them (empty for v2) → folder."""
    tree: str
    """Which of them command groups are made in."""

    def group(self, name: str) -> "CommandGroup":
        """Make a group for one command."""
        folder = self.folders[self.tree] / name
        folder.mkdir()
        others = [place / _MEMBERS for kind, place in self.folders.items() if kind != self.tree]
        return CommandGroup(folder, others)

    def oom_kills(self) -> int:
        """Return how many processes the kernel killed here for want of memory; 0 once the container is gone."""
        for kinds, folder in self.folders.items():
            for name in ("memory.oom_control", "memory.events"):
                if "memory" in kinds.split(",") or kinds == "":
                    with contextlib.suppress(OSError):
                        found = _OOM_KILLS.search((folder / name).read_text())
                        return int(found[1]) if found else 0
        return 0

    def usage(self) -> SandboxUsage:
        """Measure what the container uses now."""
        nanoseconds = self._number("cpuacct", "cpuacct.usage")
        microseconds = self._number("", "cpu.stat", re.compile(r"^usage_usec (\d+)$", re.MULTILINE))
        return SandboxUsage(
            cpu_seconds=nanoseconds / 1e9 if nanoseconds is not None else _scaled(microseconds, 1e-6),
            memory_bytes=self._first("memory.usage_in_bytes", "memory.current"),
            memory_peak_bytes=self._first("memory.max_usage_in_bytes", "memory.peak"),
            processes=self._number("pids", "pids.current") or self._number("", "pids.current"),
        )

    def _first(self, old: str, new: str) -> int | None:
        found = self._number("memory", old)
        return found if found is not None else self._number("", new)

    def _number(self, controller: str, name: str, pattern: re.Pattern[str] = _WHOLE) -> int | None:
        for kinds, folder in self.folders.items():
            if controller in kinds.split(","):
                with contextlib.suppress(OSError):
                    found = pattern.search((folder / name).read_text())
                    return int(found[1]) if found else None
        return None


class CommandGroup:
    """All processes that one command started, whatever they did to get away."""

    def __init__(self, folder: Path, others: Sequence[Path]) -> None:
        """Take over a folder; `others` are the member files of the container's other hierarchies."""
        self._folder = folder
        self.files = [str(file) for file in (*others, folder / _MEMBERS)]

    def members(self) -> list[int]:
        """Return the processes; none once the group is gone."""
        return _members(self._folder)

    def signal(self, number: int) -> None:
        """Send a signal to all."""
        for pid in self.members():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """Send SIGKILL to all, and let none fork out of it."""
        with contextlib.suppress(OSError):  # v2 before 5.14, or v1
            (self._folder / "cgroup.kill").write_text("1")
            return
        with contextlib.suppress(OSError):
            (self._folder / "pids.max").write_text("0")
        self.signal(signal.SIGKILL)

    def kill_until_gone(self) -> bool:
        """Kill all, wait until they are gone, and remove the group; False where some stay for seconds."""
        for _ in range(_ATTEMPTS):
            self.kill()
            if self.remove():
                return True
            time.sleep(_PAUSE_S)
        return False

    def remove(self) -> bool:
        """Remove the group; return False as long as it has members."""
        try:
            self._folder.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True


def find_groups(pid: int) -> ContainerGroups:
    """Find the cgroups of a container by its first process; raise `OSError` where they cannot be written."""
    mounts = _mounts(Path("/proc/self/mountinfo").read_text())
    folders = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, kinds, path = line.split(":", 2)
        mount = mounts.get(kinds)
        if mount is not None and path != "/" and (folder := mount / path.lstrip("/")).is_dir():
            folders[kinds] = folder
    tree = next((kind for kind in _TREE_KINDS if kind in folders), "")
    if tree not in folders or not os.access(folders[tree], os.W_OK):
        raise OSError(f"no writable cgroup of process {pid} was found")
    return ContainerGroups(folders=folders, tree=tree)


def _scaled(number: int | None, factor: float) -> float | None:
    return None if number is None else number * factor


def _mounts(table: str) -> dict[str, Path]:
    """Return where each hierarchy is mounted, under the name that /proc/PID/cgroup gives it."""
    found: dict[str, Path] = {}
    for line in table.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        fields = before.split(" ")
        if kind == "cgroup2":
            found[""] = Path(fields[4])
        elif kind == "cgroup":
            words = [word for word in options.split(",") if word not in {"rw", "ro", "xattr", "clone_children"}]
            found[",".join(word for word in words if not word.startswith("release_agent"))] = Path(fields[4])
    return found


def _members(folder: Path) -> list[int]:
    try:
        return [int(pid) for pid in (folder / _MEMBERS).read_text().split() if pid != "0"]
    except OSError:
        return []
