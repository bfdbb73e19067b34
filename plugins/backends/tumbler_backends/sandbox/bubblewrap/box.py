"""One sandbox as a place to start processes in; knows neither commands nor sessions."""

import asyncio
import contextlib
import itertools
import os
import resource
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import replace

from tumbler.contracts.sandbox import Resources, SandboxSpec
from tumbler.contracts.sandbox_control import SandboxUsage
from tumbler.errors import SandboxDied, SandboxError, SandboxStartFailed, SandboxUnavailable
from tumbler_backends.sandbox.bubblewrap.filesystem.finishing import to_the_end
from tumbler_backends.sandbox.bubblewrap.filesystem.layout import environment_arguments, namespace_arguments
from tumbler_backends.sandbox.bubblewrap.filesystem.storage import Storage
from tumbler_backends.sandbox.bubblewrap.host import Host
from tumbler_backends.sandbox.bubblewrap.limits.cgroups import Cgroup
from tumbler_backends.sandbox.bubblewrap.limits.freezing import freezer_for
from tumbler_backends.sandbox.bubblewrap.ownership.removal import remove_tree
from tumbler_backends.sandbox.bubblewrap.processes.capture import LeftOver
from tumbler_backends.sandbox.bubblewrap.processes.pausing import PauseClock
from tumbler_backends.sandbox.bubblewrap.processes.pipes import OutputPair
from tumbler_backends.sandbox.bubblewrap.processes.process import BubblewrapProcess
from tumbler_backends.sandbox.bubblewrap.processes.runner import READY, RUNNER, TERMINAL_RUNNER
from tumbler_backends.sandbox.bubblewrap.processes.spare import Spare
from tumbler_backends.sandbox.egress.network_namespace import NamespaceDescriptors

__all__ = ["Box"]


class Box:
    """A sandbox's folder, limits and running processes. An idle one is a folder and nothing else."""

    def __init__(self, host: Host, name: str, spec: SandboxSpec, storage: Storage) -> None:
        """Plan the sandbox `name` with its files in `storage`; `make` makes it."""
        self.host = host
        self.name = name
        self.spec = spec
        self.storage = storage
        self.layout = storage.layout
        self._resources = _with_one_more(host.resources(spec.resources))
        self._limits = host.process_limits(self._resources)
        self._numbers = itertools.count(1)
        self._free: list[int] = []
        self._processes: set[BubblewrapProcess] = set()
        self._left_over = LeftOver()
        self._watches: set[asyncio.Task[None]] = set()
        self._cgroup: Cgroup | None = None
        self._limiting = threading.Lock()
        self._cpu_seconds = 0.0
        self._spare = Spare(lambda: self._spawn(["--as-pid-1", "--", *RUNNER]))
        self._freezer = freezer_for(name, host.cgroups, self._members)
        self._pausing = asyncio.Lock()
        self._starts = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self.clock = PauseClock()
        """Measures time-outs: it stands still while the sandbox is paused."""
        self._oom_kills = 0
        self._end: str | None = None
        self._cause: str | None = None
        self.used = time.monotonic()
        """When somebody last asked for something, or a process ended, on the monotonic clock."""
        self._arguments: list[str] = []

    def make(self) -> None:
        """Make the folders."""
        self.storage.make()
        self.prepare()

    def prepare(self) -> None:
        """Get ready to start processes where the folders are there; what an earlier owner's left in them goes."""
        for left in self.layout.control.iterdir():
            left.unlink()
        shared_memory = self.host.settings.shared_memory_bytes
        self._arguments = [
            *namespace_arguments(self.spec.env, self.layout.user),
            *self.storage.arguments(self.host.etc, shared_memory),
        ]

    @property
    def end(self) -> str | None:
        """Return why the sandbox is gone; None while it is there."""
        return self._end

    def require(self) -> None:
        """Count as a use; raise `SandboxDied` once the sandbox is gone."""
        if self._end is not None:
            raise SandboxDied(f"sandbox {self.name} is gone: {self._end}; create another", self._cause)
        self.used = time.monotonic()

    @property
    def busy(self) -> bool:
        """Tell whether a process runs here."""
        return len(self._processes) > self._spare.waits

    def number(self) -> int:
        """Return a number for the files of one shell; nothing else in the sandbox has it."""
        return next(self._numbers)

    @contextlib.contextmanager
    def output(self, limit: int) -> Iterator[tuple[int, OutputPair]]:
        """Lend pipes for one command's output, and a number for its other files in the control folder.

        After the command, the output of the latest background children is read and dropped.
        """
        number = self._free.pop() if self._free else next(self._numbers)
        pair = OutputPair(self.layout.control, number, limit)
        try:
            yield number, pair
        except BaseException:
            pair.close()
            raise
        if left := pair.captures:
            self._left_over.add(left)
            pair.remove()
        else:
            self._free.append(number)

    async def start(
        self, environment: Mapping[str, str], terminal: Callable[[int], bytes] | None = None
    ) -> BubblewrapProcess:
        """Start a runner, with limits set, that waits for the name of its script.

        `terminal` makes a terminal for a runner of the given pid, and returns what to tell the runner.
        """
        if not await self.clock.resumed(self.spec.startup_timeout):
            raise SandboxUnavailable(f"sandbox {self.name} is paused: resume it first")
        with self._starting():
            async with self.host.starts:
                return await self._start(environment, terminal)

    async def pause(self) -> None:
        """Freeze all processes; time-outs stand still, and new commands wait. Safe to call twice."""
        self.require()
        async with self._pausing:
            if self.clock.paused:
                return
            self.clock.pause()
            try:
                self._spare.drop()
                await self._quiet.wait()
                await self._freeze()
            except BaseException:
                await self._thaw()
                raise

    async def resume(self) -> None:
        """Undo `pause`. Safe to call twice."""
        self.require()
        async with self._pausing:
            await self._thaw()

    def usage(self) -> SandboxUsage:
        """Measure what the processes use; `disk_bytes` is not known here."""
        self.require()
        memory, most = self._cgroup.memory() if self._cgroup is not None else (None, None)
        return SandboxUsage(
            cpu_seconds=self._cpu_seconds
            + sum(process.cpu_seconds() for process in self._processes if process.usage is None),
            memory_bytes=memory,
            memory_peak_bytes=most,
            processes=len(self._members()),
        )

    def watch(self, watching: Coroutine[None, None, None]) -> None:
        """Run what sees a process to its end; `dispose` waits for it."""
        task = asyncio.get_running_loop().create_task(watching)
        self._watches.add(task)
        task.add_done_callback(self._watches.discard)

    def out_of_memory_kills(self) -> int:
        """Return how many processes the kernel killed here so far for want of memory."""
        seen = self._cgroup.oom_kills() if self._cgroup is not None else 0
        self.host.metrics.out_of_memory_kills += max(0, seen - self._oom_kills)
        self._oom_kills = max(seen, self._oom_kills)
        return self._oom_kills

    async def dispose(self, why: str, cause: str = "deleted", *, keep_files: bool = False) -> None:
        """Kill all processes and remove every trace but perhaps the files; later calls report `why` and `cause`."""
        self._end, self._cause = self._end or why, self._cause if self._end else cause
        await self._thaw()
        self._spare.drop()
        await asyncio.gather(*(process.killed() for process in tuple(self._processes)))
        await asyncio.gather(*self._watches, return_exceptions=True)
        self._left_over.close()
        await self.storage.room.leave()
        async with self._pausing:  # somebody may just have paused it
            await self._thaw()
        await asyncio.to_thread(self._remove, keep_files)

    def abandon(self) -> None:
        """Kill and remove what can be without waiting: the way out when the interpreter ends."""
        self._end = self._end or "its owner ended"
        for process in self._processes:
            process.kill()
        self.storage.room.close()
        with contextlib.suppress(OSError):
            remove_tree(self.layout.folder)

    def _members(self) -> list[int]:
        """Return the host's pids of all that runs inside."""
        members = self._cgroup.members() if self._cgroup is not None else None
        if members is not None:
            return members
        return [pid for process in tuple(self._processes) for pid in process.members()]

    @contextlib.contextmanager
    def _starting(self) -> Iterator[None]:
        """Count a start: a pause waits for it, lest it stands still in its middle."""
        self._starts += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._starts -= 1
            if self._starts == 0:
                self._quiet.set()

    async def _start(
        self, environment: Mapping[str, str], terminal: Callable[[int], bytes] | None
    ) -> BubblewrapProcess:
        self.require()
        began = time.perf_counter()
        process = await self._ready_spare() if terminal is None and not environment else None
        if process is None:
            runner = RUNNER if terminal is None else TERMINAL_RUNNER
            process = await self._spawn(["--as-pid-1", *environment_arguments(environment), "--", *runner])
            await self._make_ready(process, terminal)
        self.host.metrics.processes_started += 1
        self.host.metrics.start_seconds += time.perf_counter() - began
        return process

    async def _freeze(self) -> None:
        try:
            await to_the_end(asyncio.to_thread(self._freezer.freeze))
        except OSError as error:  # TimeoutError is one
            raise SandboxUnavailable(f"sandbox {self.name} could not be paused: {error}") from error
        for process in self._processes:
            process.thaw = self._freezer.release

    async def _thaw(self) -> None:
        if not self.clock.paused:
            return
        for process in self._processes:
            process.thaw = None
        await to_the_end(asyncio.to_thread(self._freezer.thaw))
        self.clock.resume()

    def _remove(self, keep_files: bool) -> None:
        with self._limiting:
            if self._cgroup is not None:
                self._cgroup.remove()
        if not keep_files:
            remove_tree(self.layout.folder)

    async def _make_ready(self, process: BubblewrapProcess, terminal: Callable[[int], bytes] | None) -> None:
        try:
            await self._bring_up(process, terminal)
        except BaseException as error:
            process.kill()
            self.host.metrics.start_failures += 1
            self.require()
            if isinstance(error, OSError) and not isinstance(error, SandboxError):
                raise SandboxStartFailed(f"the limits of sandbox {self.name} could not be set: {error}") from error
            raise

    async def _bring_up(self, process: BubblewrapProcess, terminal: Callable[[int], bytes] | None) -> None:
        timeout = self.spec.startup_timeout
        first = await process.admit(self._limit, timeout)
        word = await process.hear(timeout)
        if terminal is not None:
            process.send(terminal(first))
            word = await process.hear(timeout)
        if word != READY:
            raise SandboxStartFailed(f"the shell of sandbox {self.name} said {word!r} in place of {READY!r}", "create")

    async def _ready_spare(self) -> BubblewrapProcess | None:
        """Return the spare process; None where there is none, or somebody has killed it."""
        process = self._spare.take()
        if not self.host.starts.locked():
            self._spare.prepare()
        if process is None:
            return None
        try:
            await self._make_ready(process, None)
        except SandboxStartFailed:
            self.require()
            return None
        return process

    async def _spawn(self, arguments: Sequence[str]) -> BubblewrapProcess:
        room = self.storage.room
        words, descriptors = await room.acquire()
        try:
            self.require()
            namespaces = room.namespaces
            inside = namespaces if namespaces is not None and namespaces.user is None else None
            return self._spawn_in(words if inside is None else (), descriptors, arguments, inside)
        except BaseException:
            room.release()
            raise

    def _left(self, process: BubblewrapProcess) -> None:
        # What runs inside can close what tells of its life: bwrap's own end must come too.
        if process not in self._processes or not (process.exited.done() and process.dead.done()):
            return
        self._processes.discard(process)
        self.used = time.monotonic()
        self.storage.room.release()

    def _spawn_in(
        self,
        words: Sequence[str],
        descriptors: Sequence[int],
        arguments: Sequence[str],
        namespaces: NamespaceDescriptors | None,
    ) -> BubblewrapProcess:
        # bwrap reads the filter to its end, so each process needs its own position in it.
        seccomp = os.open(f"/proc/self/fd/{self.host.seccomp}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            options = [*self._arguments, "--seccomp", str(seccomp), *arguments]
            process = BubblewrapProcess([*words, self.host.bwrap], options, (seccomp, *descriptors), namespaces)
        finally:
            os.close(seccomp)
        self._processes.add(process)
        process.exited.add_done_callback(lambda _: self._count(process))
        process.exited.add_done_callback(lambda _: self._left(process))
        process.dead.add_done_callback(lambda _: self._left(process))
        return process

    def _count(self, process: BubblewrapProcess) -> None:
        self._cpu_seconds += process.usage.cpu_seconds if process.usage is not None else 0.0

    def _limit(self, pid: int) -> None:
        with self._limiting:
            self.require()  # a start that was given up must not make anew what `dispose` removes
            if self._cgroup is None:
                self._cgroup = self.host.cgroup(self.name, self._resources)
            self._cgroup.join(pid)
        for kind, limit in self._limits:
            resource.prlimit(pid, kind, (limit, limit))


def _with_one_more(resources: Resources) -> Resources:
    """Allow for the shell that waits for the command."""
    return replace(resources, processes=resources.processes + 1 if resources.processes is not None else None)
