"""The bubblewrap backend: owns sandboxes, and removes those that dead owners left."""

import asyncio
import atexit
import contextlib
import os
import secrets
import weakref
from pathlib import Path
from typing import Final

from tumbler.contracts.sandbox import SandboxCapabilities, SandboxSpec
from tumbler.errors import SandboxError, SandboxStartFailed, SandboxUnavailable
from tumbler_backends.sandbox.bubblewrap.admission import require_enforceable
from tumbler_backends.sandbox.bubblewrap.box import Box
from tumbler_backends.sandbox.bubblewrap.cgroups import CgroupParent, find_parents, kill_until_gone
from tumbler_backends.sandbox.bubblewrap.host import Host, Metrics
from tumbler_backends.sandbox.bubblewrap.layout import make_etc
from tumbler_backends.sandbox.bubblewrap.owners import Owner, claim, default_root, new_owner_name, reap
from tumbler_backends.sandbox.bubblewrap.probe import explain, find_program
from tumbler_backends.sandbox.bubblewrap.sandbox import BubblewrapSandbox
from tumbler_backends.sandbox.bubblewrap.seccomp import filter_descriptor
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings

__all__ = ["BubblewrapBackend"]

_CGROUP_PREFIX: Final = "tumbler-"


class BubblewrapBackend:
    """Makes sandboxes from namespaces on this machine.

    Call `start` before `create`, and `close` at the end, in one event loop.
    """

    def __init__(self, settings: BubblewrapSettings) -> None:
        """Keep the settings; nothing is touched before `start`."""
        self._settings = settings
        self._root = settings.root or default_root()
        self._owner: Owner | None = None
        self._host: Host | None = None
        self._sandboxes: set[BubblewrapSandbox] = set()
        self._timers: dict[BubblewrapSandbox, asyncio.TimerHandle] = {}
        self._expiries: set[asyncio.Task[None]] = set()
        self.metrics = Metrics()

    @property
    def capabilities(self) -> SandboxCapabilities:
        """Say what the backend can do."""
        return SandboxCapabilities(tier="namespace", network_modes=("none",), snapshots=False)

    @property
    def enforced(self) -> frozenset[str]:
        """Return the cgroup controllers in force; where one is missing, rlimits are all there is."""
        return self._host.controllers if self._host is not None else frozenset()

    async def start(self) -> None:
        """Sweep what dead owners left, and make a trial sandbox."""
        if self._host is not None:
            return
        program = find_program(self._settings.bwrap)
        self.metrics.owners_reaped += await asyncio.to_thread(reap, self._root)
        name = new_owner_name()
        parents = {parent.folder / f"{_CGROUP_PREFIX}{name}": parent for parent in _parents()}
        self._owner = claim(self._root, name, tuple(parents))
        self._host = self._make_host(program, self._owner, _make_folders(parents))
        _at_exit(self)
        await self._try_out()

    async def create(self, spec: SandboxSpec) -> BubblewrapSandbox:
        """Create a sandbox: a folder with the spec's files. Its first process starts with its first command."""
        if self._host is None:
            raise SandboxUnavailable("the bubblewrap backend is not started: await its start() first")
        require_enforceable(spec, self._host)
        box = Box(self._host, secrets.token_hex(6), spec)
        sandbox = BubblewrapSandbox(box, self._forget)
        self._sandboxes.add(sandbox)
        try:
            box.make()
            for path, content in spec.files.items():
                await sandbox.write(path, content)
        except BaseException as error:
            await sandbox.delete()
            if isinstance(error, OSError) and not isinstance(error, SandboxError):
                raise SandboxStartFailed(f"the files of the sandbox could not be laid out: {error}") from error
            raise
        self.metrics.sandboxes_created += 1
        self._timers[sandbox] = asyncio.get_running_loop().call_later(spec.ttl, self._expire, sandbox, spec.ttl)
        return sandbox

    async def close(self) -> None:
        """Delete every sandbox that this instance created, and its folder."""
        await asyncio.gather(*(sandbox.delete() for sandbox in tuple(self._sandboxes)))
        await asyncio.gather(*self._expiries, return_exceptions=True)
        host, self._host = self._host, None
        owner, self._owner = self._owner, None
        if host is not None:
            os.close(host.seccomp)
            await asyncio.to_thread(kill_until_gone, host.cgroups)
        if owner is not None:
            await asyncio.to_thread(owner.release)

    def abandon(self) -> None:
        """Remove what can be removed without an event loop: the way out when the interpreter ends."""
        for sandbox in tuple(self._sandboxes):
            sandbox.abandon()
        # Where a killed process stays, so does the record: the next owner's sweep finds it.
        if self._owner is not None and kill_until_gone(self._host.cgroups if self._host is not None else ()):
            with contextlib.suppress(OSError):
                self._owner.release()

    def _make_host(self, program: str, owner: Owner, cgroups: dict[Path, CgroupParent]) -> Host:
        etc = owner.folder / "etc"
        make_etc(etc)
        return Host(
            settings=self._settings,
            bwrap=program,
            folder=owner.folder,
            etc=etc,
            cgroups=cgroups,
            seccomp=filter_descriptor(),
            starts=asyncio.Semaphore(self._settings.concurrent_starts or 2 * (os.cpu_count() or 1)),
            metrics=self.metrics,
        )

    async def _try_out(self) -> None:
        try:
            sandbox = await self.create(SandboxSpec())
            await sandbox.exec(["true"], check=True)
            await sandbox.delete()
        except (SandboxError, OSError) as error:
            await self.close()
            raise explain(error) from error

    def _forget(self, sandbox: BubblewrapSandbox) -> None:
        self._sandboxes.discard(sandbox)
        self.metrics.sandboxes_deleted += 1
        timer = self._timers.pop(sandbox, None)
        if timer is not None:
            timer.cancel()

    def _expire(self, sandbox: BubblewrapSandbox, ttl: float) -> None:
        self.metrics.sandboxes_expired += 1
        task = asyncio.get_running_loop().create_task(sandbox.delete_because(f"its time to live of {ttl} s is over"))
        self._expiries.add(task)
        task.add_done_callback(self._expiries.discard)


def _parents() -> list[CgroupParent]:
    try:
        return find_parents(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())
    except OSError:  # a kernel without cgroups
        return []


def _make_folders(parents: dict[Path, CgroupParent]) -> dict[Path, CgroupParent]:
    """Make this owner's cgroups; return those that could be made."""
    made = {}
    for folder, parent in parents.items():
        with contextlib.suppress(OSError):  # not writable by this user: rlimits remain
            folder.mkdir()
            made[folder] = parent
    return made


def _at_exit(backend: BubblewrapBackend) -> None:
    reference = weakref.ref(backend)

    def abandon() -> None:
        if (left := reference()) is not None:
            left.abandon()

    atexit.register(abandon)
    finalizer = weakref.finalize(backend, atexit.unregister, abandon)
    finalizer.atexit = False  # it would take the function away just before its time
