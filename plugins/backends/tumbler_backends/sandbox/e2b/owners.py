"""Whose a sandbox is: a named owner's, or one process's, which can be seen to be dead from the same machine."""

import os
import secrets
import socket
from pathlib import Path
from typing import Final

__all__ = ["anonymous_owner", "is_dead"]

_PREFIX: Final = "process"
_START_FIELD: Final = 19
"""Where a process's start time lies in /proc/<pid>/stat behind the name in parentheses."""


def anonymous_owner() -> str:
    """Return a name for this process alone, and for one backend in it."""
    pid = os.getpid()
    return f"{_PREFIX}:{_host()}:{pid}:{_started(pid)}:{secrets.token_hex(4)}"


def is_dead(owner: str) -> bool:
    """Tell whether an owner is a process of this machine and is certainly dead."""
    words = owner.split(":")
    if len(words) != 5 or words[:2] != [_PREFIX, _host()] or not words[2].isdecimal():
        return False
    return _started(int(words[2])) != words[3]


def _host() -> str:
    """Return what tells this machine and its pid namespace from others; a new one after each boot."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    try:
        return f"{boot.read_text().strip()}-{namespace.readlink().name}".replace(":", "-")
    except OSError:  # not on Linux
        return socket.gethostname().replace(":", "-")


def _started(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[_START_FIELD]
    except OSError:  # no such process, or not on Linux
        return "gone" if Path("/proc/self/stat").exists() else "unknown"
