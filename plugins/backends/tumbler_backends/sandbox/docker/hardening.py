"""What a container is made of: the engine's configuration for one spec, hardened; asks no engine."""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiodocker.types import JSONValue

from tumbler.contracts.sandbox import Resources, SandboxSpec
from tumbler.errors import CapabilityError
from tumbler_backends.sandbox.docker.settings import DockerSettings

__all__ = [
    "CONTROL_FOLDER",
    "ENVIRONMENT",
    "HOME",
    "Plan",
    "container_configuration",
    "resources_of",
    "writable_folders",
]

HOME: Final = "/home/sandbox"
CONTROL_FOLDER: Final = "/run/tumbler"
"""Where a sandbox sees its sessions' pipes, read-only."""
ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": HOME,
    "LANG": "C.UTF-8",
    "USER": "sandbox",
}
_SYSTEM_FOLDERS: Final = frozenset(
    {"proc", "sys", "dev", "run", "etc", "usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "boot"}
)
_IDLE: Final = "while :; do sleep 86400; done"
"""The container's own process: it ends with the SIGTERM that the engine sends, and does nothing else."""
_MASKED: Final = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/key-users",
    "/proc/keys",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/sysrq-trigger",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/kernel/debug",
    "/sys/kernel/tracing",
)
_INODE_BYTES: Final = 4096
"""A file in memory takes a page at least; the kernel's own limit on files is the whole machine's."""
_READ_ONLY: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One container to make."""

    spec: SandboxSpec
    image: str
    """As the engine knows it."""
    user: int
    group: int
    runtime: str | None
    control: str | None
    """The folder of this machine to show at `CONTROL_FOLDER`; None is one in the container's memory."""
    labels: Mapping[str, str]


def resources_of(spec: SandboxSpec, settings: DockerSettings) -> Resources:
    """Fill the gaps of what a spec asks with the settings."""
    asked = spec.resources
    return Resources(
        cpus=asked.cpus or settings.cpus,
        memory_bytes=asked.memory_bytes or settings.memory_bytes,
        disk_bytes=asked.disk_bytes or settings.disk_bytes,
        processes=asked.processes or settings.processes,
        open_files=asked.open_files or settings.open_files,
        gpus=asked.gpus,
    )


def writable_folders(spec: SandboxSpec) -> tuple[str, ...]:
    """Return the folders that a sandbox writes to, no one below another; raise `CapabilityError` for a bad workdir."""
    workdir = posixpath.normpath(spec.workdir)
    top = workdir.split("/")[1] if workdir.startswith("/") else ""
    if not top or top in _SYSTEM_FOLDERS:
        raise CapabilityError(
            f"workdir {spec.workdir!r} cannot be used: give an absolute path outside of the system's folders, "
            "such as /work"
        )
    covered = any(workdir == place or workdir.startswith(f"{place}/") for place in ("/tmp", HOME))
    if covered:
        return ("/tmp", HOME)
    if HOME.startswith(f"{workdir}/"):
        return (workdir, "/tmp")
    return (workdir, "/tmp", HOME)


def container_configuration(plan: Plan, settings: DockerSettings) -> dict[str, JSONValue]:
    """Return what the engine's API takes to create the container."""
    return {
        "Image": plan.image,
        "Entrypoint": ["/bin/sh", "-c", _IDLE],
        "Cmd": [],
        # The idle process is nobody's that commands run as: `kill -1` in a command does not end the sandbox.
        "User": "0:0",
        "WorkingDir": "/",
        "Hostname": "sandbox",
        "Env": [],
        "Labels": dict(plan.labels),
        "StopTimeout": 1,
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": _host_configuration(plan, settings),
    }


def _host_configuration(plan: Plan, settings: DockerSettings) -> dict[str, JSONValue]:
    limits = resources_of(plan.spec, settings)
    configuration: dict[str, JSONValue] = {
        "NetworkMode": "none",
        "CapDrop": ["ALL"],
        "Privileged": False,
        "SecurityOpt": ["no-new-privileges"],
        "Init": True,
        "IpcMode": "private",
        "CgroupnsMode": "private",
        # Nothing of this machine's: the gateway answers every question, wherever it is sent.
        "Dns": ["127.0.0.1"],
        "PidMode": "",
        "ShmSize": settings.shared_memory_bytes,
        "ReadonlyRootfs": settings.root_filesystem == "read-only",
        "MaskedPaths": list(_MASKED),
        "ReadonlyPaths": list(_READ_ONLY),
        "Tmpfs": _memory_folders(plan, settings, limits.disk_bytes or 0),
        "Mounts": _mounts(plan),
        "LogConfig": {"Type": "none", "Config": {}},
        "RestartPolicy": {"Name": "no"},
        "AutoRemove": False,
        "Memory": limits.memory_bytes,
        "MemorySwap": limits.memory_bytes,
        "PidsLimit": limits.processes,
        "Ulimits": [
            {"Name": name, "Soft": number, "Hard": number}
            for name, number in (
                ("nofile", limits.open_files),
                ("fsize", settings.file_bytes),
                ("core", 0),
            )
        ],
    }
    if limits.cpus:
        configuration["NanoCpus"] = round(limits.cpus * 1e9)
    if limits.gpus:
        configuration["DeviceRequests"] = [{"Count": limits.gpus, "Capabilities": [["gpu"]]}]
    if plan.runtime is not None:
        configuration["Runtime"] = plan.runtime
    return configuration


def _memory_folders(plan: Plan, settings: DockerSettings, size: int) -> dict[str, str]:
    folders = {}
    if settings.root_filesystem == "read-only":
        for place in writable_folders(plan.spec):
            owner = "mode=1777" if place == "/tmp" else f"mode=755,uid={plan.user},gid={plan.group}"
            folders[place] = f"rw,exec,nosuid,nodev,size={size},nr_inodes={size // _INODE_BYTES},{owner}"
    if plan.control is None:
        folders[CONTROL_FOLDER] = "rw,noexec,nosuid,nodev,size=1048576,mode=755"
    return folders


def _mounts(plan: Plan) -> list[dict[str, JSONValue]]:
    places = [(mount.source, mount.target, mount.writable) for mount in plan.spec.mounts]
    if plan.control is not None:
        places.append((plan.control, CONTROL_FOLDER, False))
    return [
        {
            "Type": "bind",
            "Source": source,
            "Target": target,
            "ReadOnly": not writable,
            "BindOptions": {"Propagation": "rprivate"},
        }
        for source, target, writable in places
    ]
