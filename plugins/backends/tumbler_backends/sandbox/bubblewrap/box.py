"""One sandbox as a place to start processes in; knows neither commands nor sessions."""

import asyncio
import contextlib
import itertools
import os
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tumbler.contracts.sandbox import SandboxSpec
from tumbler.errors import SandboxDied, SandboxStartFailed
from tumbler_backends.sandbox.bubblewrap.capture import Capture, OutputPair
from tumbler_backends.sandbox.bubblewrap.cgroups import Cgroup
from tumbler_backends.sandbox.bubblewrap.host import Host
from tumbler_backends.sandbox.bubblewrap.layout import Layout, environment_arguments, namespace_arguments
from tumbler_backends.sandbox.bubblewrap.owners import remove_tree
from tumbler_backends.sandbox.bubblewrap.process import BubblewrapProcess

__all__ = ["Box"]


class Box:
    """A sandbox's folder, limits and running processes. An idle one is a folder and nothing else."""

    def __init__(self, host: Host, name: str, spec: SandboxSpec) -> None:
        """Plan the sandbox `name`; `make` makes it."""
        self.host = host
        self.name = name
        self.spec = spec
        self.layout = Layout.of(host.folder / name, spec)
        self._image = Path(spec.image) if spec.image is not None else None
        self._resources = host.resources(spec.resources)
        self._limits = host.process_limits(self._resources)
        self._numbers = itertools.count(1)
        self._free: list[int] = []
        self._processes: set[BubblewrapProcess] = set()
        self._left_over: set[Capture] = set()
        self._cgroup: Cgroup | None = None
        self._oom_kills = 0
        self._end: str | None = None
        self._arguments: list[str] = []

    def make(self) -> None:
        """Make the folders."""
        self.layout.make()
        shared_memory = self.host.settings.shared_memory_bytes
        self._arguments = [
            *namespace_arguments(self.spec.env),
            *self.layout.arguments(self._image, self.host.etc, shared_memory),
        ]

    @property
    def end(self) -> str | None:
        """Return why the sandbox is gone; None while it is there."""
        return self._end

    def require(self) -> None:
        """Raise `SandboxDied` once the sandbox is gone."""
        if self._end is not None:
            raise SandboxDied(f"sandbox {self.name} is gone: {self._end}; create another")

    def number(self) -> int:
        """Return a number for the files of one shell; nothing else in the sandbox has it."""
        return next(self._numbers)

    @contextlib.contextmanager
    def output(self, limit: int) -> Iterator[tuple[int, OutputPair]]:
        """Lend pipes for one command's output, and a number for its other files in the control folder.

        After the command, a background child's output is read and dropped as long as the sandbox lives.
        """
        number = self._free.pop() if self._free else next(self._numbers)
        pair = OutputPair(self.layout.control, number, limit)
        try:
            yield number, pair
        except BaseException:
            pair.close()
            raise
        if left := pair.captures:
            self._left_over = {capture for capture in self._left_over if capture.open}.union(left)
            pair.remove()
        else:
            self._free.append(number)

    async def start(self, program: Sequence[str], environment: Mapping[str, str]) -> tuple[BubblewrapProcess, bytes]:
        """Start a program that says a word over its stdin once it runs; return it, with limits set, and the word."""
        async with self.host.starts:
            self.require()
            began = time.perf_counter()
            process = self._spawn([*environment_arguments(environment), "--", *program])
            try:
                word, pid = await process.ready(self.spec.startup_timeout)
                await asyncio.to_thread(self._limit, pid)
            except BaseException as error:
                process.kill()
                self.host.metrics.start_failures += 1
                self.require()
                if isinstance(error, OSError):
                    raise SandboxStartFailed(f"the limits of sandbox {self.name} could not be set: {error}") from error
                raise
        self.host.metrics.processes_started += 1
        self.host.metrics.start_seconds += time.perf_counter() - began
        return process, word

    def ran_out_of_memory(self) -> bool:
        """Tell whether the kernel killed a process here for want of memory since the last call."""
        seen = self._cgroup.oom_kills() if self._cgroup is not None else 0
        more, self._oom_kills = seen - self._oom_kills, seen
        self.host.metrics.out_of_memory_kills += more
        return more > 0

    async def dispose(self, why: str) -> None:
        """Kill all processes and remove every trace."""
        self._end = self._end or why
        await asyncio.gather(*(process.killed() for process in tuple(self._processes)))
        for capture in self._left_over:
            capture.close()
        await asyncio.to_thread(self._remove)

    def abandon(self) -> None:
        """Kill and remove what can be without waiting: the way out when the interpreter ends."""
        self._end = self._end or "its owner ended"
        for process in self._processes:
            process.kill()
        with contextlib.suppress(OSError):
            remove_tree(self.layout.folder)

    def _remove(self) -> None:
        if self._cgroup is not None:
            self._cgroup.remove()
        remove_tree(self.layout.folder)

    def _spawn(self, arguments: Sequence[str]) -> BubblewrapProcess:
        # bwrap reads the filter to its end, so each process needs its own position in it.
        seccomp = os.open(f"/proc/self/fd/{self.host.seccomp}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            command = [self.host.bwrap, *self._arguments, "--seccomp", str(seccomp), *arguments]
            process = BubblewrapProcess(command, seccomp)
        finally:
            os.close(seccomp)
        self._processes.add(process)
        process.dead.add_done_callback(lambda _: self._processes.discard(process))
        return process

    def _limit(self, pid: int) -> None:
        if self._cgroup is None:
            self._cgroup = self.host.cgroup(self.name, self._resources)
        self._cgroup.join(pid)
        for kind, limit in self._limits:
            resource.prlimit(pid, kind, (limit, limit))
