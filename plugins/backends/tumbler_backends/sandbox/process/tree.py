"""Find and signal the processes of a sandbox or of one command by their marks; starts nothing.

Each carries variables that its children inherit. A child that drops them is found in the session that its command
leads, or as a descendant of one that is found. One that drops them is lost once its command has ended.
"""

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["COMMAND_MARK", "SANDBOX_MARK", "Mark", "kill_tree", "members", "signal_tree"]

SANDBOX_MARK: Final = "TUMBLER_SANDBOX"
"""The variable with the name of the sandbox's owner and the sandbox's id."""
COMMAND_MARK: Final = "TUMBLER_TREE"
"""The variable with a random word of each command that is started."""

_PASSES: Final = 200
_PASS_S: Final = 0.02
_GONE: Final = frozenset("ZX")


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What tells which processes belong together."""

    variable: str
    value: str
    sessions: frozenset[int] = frozenset()
    """Session ids that only they have."""

    def marks(self, environment: bytes) -> bool:
        """Tell whether an environment has the variable; a value that ends in `/` stands for all that begin so."""
        entry = f"{self.variable}={self.value}".encode()
        entries = environment.split(b"\0")
        return any(each.startswith(entry) for each in entries) if self.value.endswith("/") else entry in entries


def members(mark: Mark) -> frozenset[int]:
    """Return the living processes with the mark and all their descendants, but this process itself."""
    parents: dict[int, int] = {}
    found: set[int] = set()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with suppress(OSError):  # gone meanwhile, or another user's
            pid = int(folder.name)
            state, parent, _, session = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[:4]
            if state in _GONE:
                continue
            parents[pid] = int(parent)
            if int(session) in mark.sessions or mark.marks((folder / "environ").read_bytes()):
                found.add(pid)
    return frozenset(_with_descendants(found, parents) - {os.getpid()})


def signal_tree(mark: Mark, number: int) -> int:
    """Send a signal to all members; return how many there were."""
    found = members(mark)
    _send(found, number)
    return len(found)


def kill_tree(mark: Mark) -> bool:
    """Kill all members until none is left; return whether that was reached. Blocks, at most for some seconds."""
    for _ in range(_PASSES):
        found = members(mark)
        if not found:
            return True
        # What is stopped makes no new children while the others are found and killed.
        _send(found, signal.SIGSTOP)
        _send(found | members(mark), signal.SIGKILL)
        time.sleep(_PASS_S)
    return not members(mark)


def _with_descendants(found: set[int], parents: dict[int, int]) -> set[int]:
    while True:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        if not more:
            return found
        found |= more


def _send(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
