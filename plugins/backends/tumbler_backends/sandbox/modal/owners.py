"""Whose a sandbox is: a named owner's, or one process's, which can be seen to be dead from the same machine."""

import os
import secrets
from pathlib import Path
from typing import Final

__all__ = ["anonymous_owner", "is_dead", "named_owner"]

_START_FIELD: Final = 19
"""Where a process's start time lies in /proc/<pid>/stat behind the name in parentheses."""
_PARTS: Final = 5


def named_owner(name: str) -> str:
    """Return the tag of an owner that outlives its process."""
    return f"named_{name}"


def anonymous_owner() -> str:
    """Return a tag for one backend of this process."""
    pid = os.getpid()
    return f"process_{_machine()}_{pid}_{_started(pid)}_{secrets.token_hex(4)}"


def is_dead(owner: str) -> bool:
    """Tell whether an owner is a process of this machine and is certainly dead."""
    parts = owner.split("_")
    if len(parts) != _PARTS or parts[:2] != ["process", _machine()] or not parts[2].isdecimal():
        return False
    return _started(int(parts[2])) != parts[3]


def _machine() -> str:
    """Return what tells this machine and its pid namespace from others, and a boot from the one before."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = Path("/proc/self/ns/pid").readlink().name
    except OSError:  # not on Linux: nobody is ever seen to be dead
        return secrets.token_hex(8)
    return f"{boot}.{''.join(filter(str.isdecimal, namespace))}"


def _started(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[_START_FIELD]
    except OSError:
        return "gone"
