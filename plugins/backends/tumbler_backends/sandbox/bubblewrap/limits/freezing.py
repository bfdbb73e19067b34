"""Freeze all processes of one sandbox and let them go on; knows not what they are."""

import contextlib
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from tumbler_backends.sandbox.bubblewrap.limits.cgroups import CgroupParent, move
from tumbler_backends.sandbox.bubblewrap.processes.tree import send_signal

__all__ = ["Freezer", "freezer_for"]

_ROUNDS: Final = 200
_PAUSE_S: Final = 0.005
_UNIFIED: Final = 2

Members = Callable[[], Sequence[int]]
"""Returns the pids of the processes to freeze."""


class Freezer(Protocol):
    """One way to freeze. The methods block for as long as the kernel takes, about a second at most."""

    def freeze(self) -> None:
        """Freeze everything; raises `TimeoutError` where something does not stand still."""
        ...

    def release(self, pids: Sequence[int]) -> None:
        """Let single processes run: they are to die."""
        ...

    def thaw(self) -> None:
        """Let everything go on."""
        ...


def freezer_for(name: str, cgroups: Mapping[Path, CgroupParent], members: Members) -> Freezer:
    """Return the best way to freeze the sandbox `name`: the freezer of cgroups v1 or v2, or else signals."""
    for folder, parent in cgroups.items():
        if parent.version == _UNIFIED:
            return _UnifiedFreezer(folder / name)
        if "freezer" in parent.controllers:
            return _GroupFreezer(folder / name, members)
    return _SignalFreezer(members)


class _GroupFreezer:
    """The freezer controller of cgroups v1; its cgroup is there only while something is frozen in it."""

    def __init__(self, folder: Path, members: Members) -> None:
        self._folder = folder
        self._members = members

    def freeze(self) -> None:
        self._folder.mkdir(exist_ok=True)
        state = self._folder / "freezer.state"
        moved: set[int] = set()
        # What is in there cannot fork any more, so the rounds come to an end.
        for _ in range(_ROUNDS):
            # Each time anew: a process that was between two waits when it was told is told again.
            state.write_text("FROZEN")
            fresh = set(self._members()) - moved
            for pid in fresh:
                with contextlib.suppress(ProcessLookupError):
                    move(pid, self._folder)
            moved |= fresh
            if not fresh and state.read_text().strip() == "FROZEN":
                return
            time.sleep(0 if fresh else _PAUSE_S)
        raise TimeoutError("the sandbox's processes could not be frozen: some of them wait for a device")

    def release(self, pids: Sequence[int]) -> None:
        for pid in pids:
            with contextlib.suppress(OSError):  # gone
                move(pid, self._folder.parent)

    def thaw(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self._folder / "freezer.state").write_text("THAWED")
            for _ in range(_ROUNDS):
                self.release([int(pid) for pid in (self._folder / "cgroup.procs").read_text().split()])
                with contextlib.suppress(OSError):  # somebody was forked into it meanwhile
                    self._folder.rmdir()


class _UnifiedFreezer:
    """The freezer of cgroups v2, where a frozen process can die."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def freeze(self) -> None:
        if not self._folder.is_dir():  # nothing has run yet
            return
        (self._folder / "cgroup.freeze").write_text("1")
        for _ in range(_ROUNDS):
            if "frozen 1" in (self._folder / "cgroup.events").read_text():
                return
            time.sleep(_PAUSE_S)
        raise TimeoutError("the sandbox's processes could not be frozen: some of them wait for a device")

    def release(self, pids: Sequence[int]) -> None:
        return

    def thaw(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self._folder / "cgroup.freeze").write_text("0")


class _SignalFreezer:
    """SIGSTOP and SIGCONT, which parents inside may notice; a stopped process can die."""

    def __init__(self, members: Members) -> None:
        self._members = members
        self._stopped: set[int] = set()

    def freeze(self) -> None:
        for _ in range(_ROUNDS):
            fresh = set(self._members()) - self._stopped
            if not fresh:
                return
            for pid in fresh:
                send_signal(pid, signal.SIGSTOP)
            self._stopped |= fresh
        raise TimeoutError("the sandbox's processes fork faster than they can be stopped")

    def release(self, pids: Sequence[int]) -> None:
        return

    def thaw(self) -> None:
        for pid in self._stopped.intersection(self._members()):
            send_signal(pid, signal.SIGCONT)
        self._stopped.clear()
