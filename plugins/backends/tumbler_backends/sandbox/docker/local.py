"""Start commands in a container of this machine directly in its namespaces, past the engine; for root only."""

import asyncio
import contextlib
import errno
import itertools
import os
import select
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tumbler.contracts.sandbox_control import SandboxUsage
from tumbler_backends.sandbox.docker.groups import CommandGroup, ContainerGroups, find_groups
from tumbler_backends.sandbox.docker.hardening import CONTROL_FOLDER
from tumbler_backends.sandbox.docker.launcher import Request
from tumbler_backends.sandbox.docker.launching import Ending, Launched, Launcher
from tumbler_backends.sandbox.docker.place import Order, Started

__all__ = ["LocalPlace"]

_PF_EXITING: Final = 0x4
_DEATH_S: Final = 10.0
_GROUP_PREFIX: Final = "tumbler-"


class LocalPlace:
    """A container whose first process this process can see.

    Each command gets a cgroup of its own below the container's, so that killing it is exact.
    """

    def __init__(self, pid: int, control: Path, request: Request, launcher: Launcher) -> None:
        """Hold the container with first process `pid`; raise `OSError` where it is gone or its cgroups are not ours.

        `control` is the folder that it sees as its control folder; `request` is what all its commands share.
        """
        self.pid = pid
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._control = control
        self._request = request
        self._launcher = launcher
        self._numbers = itertools.count(1)
        self._left: set[CommandGroup] = set()
        self._groups: ContainerGroups = find_groups(pid)
        self._pidfd = os.pidfd_open(pid)
        self.root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        """The container's file system, as it sees it."""
        asyncio.get_running_loop().add_reader(self._pidfd, self._end)

    def become(self, user: int, group: int) -> None:
        """Run commands as this user from now on."""
        self._request = self._request.copy()
        self._request["user"], self._request["group"] = user, group

    async def start(self, order: Order, streams: Sequence[int]) -> Started:
        """Start a command in a cgroup of its own."""
        self._sweep()
        group = self._groups.group(f"{_GROUP_PREFIX}{os.getpid()}-{next(self._numbers)}")
        request = self._request.copy()
        request["argv"] = list(order.words)
        request["env"] = dict(order.env)
        request["cwd"] = order.cwd
        request["cgroups"] = group.files
        if order.terminal is not None:
            request["terminal"] = [order.terminal.columns, order.terminal.rows]
        try:
            launched = await self._launcher.launch(self._pidfd, request, streams)
        except BaseException:
            self._left.add(group)
            group.kill()
            raise
        return _LocalCommand(launched, group, self._left)

    async def open_outputs(self, number: int) -> tuple[int, int]:
        """Make and open two named pipes."""
        opened: list[int] = []
        try:
            for kind in "oe":
                path = self._control / f"{number}{kind}"
                with contextlib.suppress(FileExistsError):
                    os.mkfifo(path)
                    path.chmod(0o622)
                opened.append(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW))
        except OSError:
            for descriptor in opened:
                os.close(descriptor)
            raise
        return opened[0], opened[1]

    async def make_input(self, number: int) -> str:
        """Make a named pipe for a command's stdin."""
        path = self._control / f"{number}i"
        os.mkfifo(path)
        path.chmod(0o644)
        return f"{CONTROL_FOLDER}/{path.name}"

    async def open_input(self, number: int) -> int | None:
        """Open it, once somebody reads."""
        try:
            return os.open(self._control / f"{number}i", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return None

    async def close_outputs(self, number: int) -> None:
        """Remove the pipes' names."""
        for kind in "oei":
            (self._control / f"{number}{kind}").unlink(missing_ok=True)

    def oom_kills(self) -> int:
        """Return how many processes the kernel killed here for want of memory."""
        return self._groups.oom_kills()

    async def usage(self) -> SandboxUsage:
        """Measure what the container uses."""
        return self._groups.usage()

    def dying(self) -> bool:
        """Tell whether the container's first process has ended, or waits for the last of the others to end."""
        if self._pidfd < 0 or select.select([self._pidfd], [], [], 0)[0]:
            return True
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return True
        return bool(int(fields[6]) & _PF_EXITING)

    async def close(self) -> None:
        """Let go of the container and close what was opened of it."""
        if self._pidfd < 0:
            return
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        os.close(self.root)
        self._pidfd = -1
        for group in self._left:
            group.remove()
        if not self.gone.done():
            self.gone.set_result(None)

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        if not self.gone.done():
            self.gone.set_result(None)

    def _sweep(self) -> None:
        """Remove the groups of commands whose last child has ended meanwhile."""
        for group in tuple(self._left):
            if group.remove():
                self._left.discard(group)


class _LocalCommand:
    """A command in a cgroup of its own."""

    def __init__(self, launched: Launched, group: CommandGroup, left: set[CommandGroup]) -> None:
        self.ended: asyncio.Future[Ending] = launched.ended
        self._launched = launched
        self._group = group
        self._left = left

    @property
    def pid(self) -> int | None:
        """Return the process id on this machine."""
        return self._launched.pid

    @property
    def terminal(self) -> int | None:
        """Return the descriptor of its terminal."""
        return self._launched.terminal

    async def signal(self, number: int) -> None:
        """Send a signal to all in the group."""
        self._group.signal(number)

    async def kill(self) -> None:
        """Kill all in the group and remove it."""
        self._group.kill()
        if not self.ended.done():
            await asyncio.wait((self.ended,), timeout=_DEATH_S)
        if not self._group.remove():
            await asyncio.to_thread(self._group.kill_until_gone)
        self._left.discard(self._group)

    async def release(self) -> None:
        """Remove the group, or keep it in mind while children live on."""
        if not self._group.remove():
            self._left.add(self._group)
