"""What all sandboxes of one backend instance share: program, limits, filter, counters."""

import asyncio
import math
import os
import resource
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tumbler.contracts.sandbox import Resources
from tumbler_backends.sandbox.bubblewrap.limits.cgroups import Cgroup, CgroupParent
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings

__all__ = ["Host", "Metrics"]

_ROOT_USER: Final = 0
_SIGNALS_PENDING: Final = 1024
_QUEUE_BYTES: Final = 1 << 16

_START_BOUNDS: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, math.inf)
"""Seconds."""


@dataclass(kw_only=True)
class Metrics:
    """Counts since the backend was built."""

    sandboxes_created: int = 0
    sandboxes_deleted: int = 0
    sandboxes_expired: int = 0
    processes_started: int = 0
    start_failures: int = 0
    start_seconds: float = 0.0
    """Summed over `processes_started`: from the fork to the first word from inside."""
    commands: int = 0
    session_commands: int = 0
    session_restarts: int = 0
    timeouts: int = 0
    truncated_outputs: int = 0
    out_of_memory_kills: int = 0
    owners_reaped: int = 0
    """Dead owners whose folders, cgroups and processes were removed."""
    sandboxes_adopted: int = 0
    """Sandboxes of a dead owner of the same name that were taken over."""
    infra_failures: int = 0
    """Sandboxes that could not be made for reasons of the infrastructure."""
    ready_seconds: dict[float, int] = field(default_factory=lambda: dict.fromkeys(_START_BOUNDS, 0))
    """Upper bound in seconds → how many sandboxes were made within it."""

    def count_ready(self, seconds: float) -> None:
        """Count a sandbox that took `seconds` to make."""
        self.sandboxes_created += 1
        for bound in self.ready_seconds:
            self.ready_seconds[bound] += seconds <= bound


@dataclass(frozen=True, kw_only=True)
class Host:
    """The running backend as its sandboxes see it."""

    settings: BubblewrapSettings
    bwrap: str
    folder: Path
    etc: Path
    cgroups: dict[Path, CgroupParent]
    """Folder of this owner's cgroups → where it lies; empty where none can be made."""
    seccomp: int
    """A descriptor with the filter program."""
    starts: asyncio.Semaphore
    metrics: Metrics = field(default_factory=Metrics)

    @property
    def controllers(self) -> frozenset[str]:
        """Return the cgroup controllers that are enforced."""
        return frozenset[str]().union(*(parent.controllers for parent in self.cgroups.values()))

    @property
    def enforced(self) -> frozenset[str]:
        """Return the fields of `Resources` that hold here."""
        limits = {"memory": "memory_bytes", "cpu": "cpus", "pids": "processes"}
        found = {limits[controller] for controller in self.controllers if controller in limits}
        if self.counts_processes_by_rlimit:
            found.add("processes")
        return frozenset({*found, "open_files", "disk_bytes"})

    @property
    def counts_processes_by_rlimit(self) -> bool:
        """Tell whether RLIMIT_NPROC holds a sandbox: it counts per user namespace, but never the host's root."""
        return os.getuid() != _ROOT_USER

    def resources(self, asked: Resources) -> Resources:
        """Fill the gaps of what a spec asks with the settings."""
        return Resources(
            cpus=asked.cpus,
            memory_bytes=asked.memory_bytes or self.settings.memory_bytes,
            disk_bytes=asked.disk_bytes,
            processes=asked.processes or self.settings.processes,
            open_files=asked.open_files or self.settings.open_files,
        )

    def cgroup(self, name: str, resources: Resources) -> Cgroup:
        """Make the cgroup of one sandbox."""
        return Cgroup({folder / name: parent for folder, parent in self.cgroups.items()}, resources)

    def process_limits(self, resources: Resources) -> list[tuple[int, int]]:
        """Return the rlimits of the first process inside; they hold with cgroups and without."""
        wanted = {
            # Not 0: that keeps the kernel from writing a file, but not from starting a core handler on the host.
            resource.RLIMIT_CORE: 1,
            # What counts against the host's root too: it must not run out of them for a sandbox's sake.
            resource.RLIMIT_SIGPENDING: _SIGNALS_PENDING,
            resource.RLIMIT_MSGQUEUE: _QUEUE_BYTES,
            resource.RLIMIT_FSIZE: self.settings.file_bytes,
            resource.RLIMIT_NOFILE: resources.open_files,
        }
        if self.counts_processes_by_rlimit:
            wanted[resource.RLIMIT_NPROC] = resources.processes
        if "memory" not in self.controllers:
            wanted[resource.RLIMIT_DATA] = resources.memory_bytes
        return [(kind, _at_most(kind, limit)) for kind, limit in wanted.items() if limit is not None]


def _at_most(kind: int, limit: int) -> int:
    """Lower `limit` to this process's own hard limit, which a child cannot pass."""
    _, hard = resource.getrlimit(kind)
    return limit if hard == resource.RLIM_INFINITY else min(limit, hard)
