"""Find and signal the processes below another one; knows no sandbox."""

import contextlib
import os
from pathlib import Path

__all__ = ["children", "cpu_seconds", "descendants", "send_signal"]

_USER_TIME, _CHILDREN_SYSTEM_TIME = 11, 14
"""Places of the four times among the fields of `/proc/<pid>/stat` that follow the name."""


def children(pid: int) -> list[int]:
    """Return the direct children; none where the process is gone."""
    try:
        threads = sorted(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    except OSError:  # gone meanwhile
        return []


def descendants(pid: int) -> list[int]:
    """Return the children, their children and so on, parents before their children."""
    found: list[int] = []
    waiting = children(pid)
    while waiting:
        found.append(waiting.pop())
        waiting += children(found[-1])
    return found


def send_signal(pid: int, number: int) -> None:
    """Send a signal; a process that is gone needs none."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process and of the children that it has waited for; 0 once it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    ticks = sum(int(field) for field in fields[_USER_TIME : _CHILDREN_SYSTEM_TIME + 1])
    return ticks / os.sysconf("SC_CLK_TCK")
