"""The bubblewrap backend: makes sandboxes, keeps count of them, and finds them again."""

import asyncio
import atexit
import contextlib
import os
import weakref
from collections.abc import Mapping, Sequence

from tumbler.contracts.sandbox import NetworkPolicy, SandboxCapabilities, SandboxSpec
from tumbler.contracts.sandbox_control import BackendMetrics, SandboxInfo, Template
from tumbler.errors import CapabilityError, SandboxError, SandboxUnavailable
from tumbler_backends.sandbox.bubblewrap.filesystem.copies import Copies
from tumbler_backends.sandbox.bubblewrap.filesystem.images import ImageStore
from tumbler_backends.sandbox.bubblewrap.filesystem.templates import TemplateStore
from tumbler_backends.sandbox.bubblewrap.host import Host, Metrics
from tumbler_backends.sandbox.bubblewrap.limits.cgroups import kill_until_gone
from tumbler_backends.sandbox.bubblewrap.living import Living
from tumbler_backends.sandbox.bubblewrap.making import Maker
from tumbler_backends.sandbox.bubblewrap.network import offered_modes, require_policy
from tumbler_backends.sandbox.bubblewrap.ownership.owners import Owner, default_root
from tumbler_backends.sandbox.bubblewrap.ownership.reaping import reap
from tumbler_backends.sandbox.bubblewrap.ownership.records import read_records
from tumbler_backends.sandbox.bubblewrap.ownership.watchdog import Watchdog
from tumbler_backends.sandbox.bubblewrap.preparation import make_host, take_ownership
from tumbler_backends.sandbox.bubblewrap.probe import explain, find_program
from tumbler_backends.sandbox.bubblewrap.sandbox import BubblewrapSandbox
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings
from tumbler_backends.sandbox.egress.egress_log import EgressLog

__all__ = ["BubblewrapBackend"]


class BubblewrapBackend:
    """Makes sandboxes from namespaces on this machine.

    Call `start` before `create`, and `close` at the end, in one event loop.
    """

    def __init__(self, settings: BubblewrapSettings) -> None:
        """Keep the settings; nothing is touched before `start`."""
        self._settings = settings
        self._root = settings.root or default_root(in_memory=settings.in_memory)
        cache = settings.cache or (settings.root or default_root()).parent
        self._images = ImageStore(cache / "images", settings.images)
        self._templates = TemplateStore(cache / "templates")
        self._log = EgressLog(settings.egress_log)
        self._living = Living()
        self._owner: Owner | None = None
        self._host: Host | None = None
        self._maker: Maker | None = None
        self._watchdog: Watchdog | None = None
        self._expiries: set[asyncio.Task[None]] = set()
        self.metrics = Metrics()

    @property
    def capabilities(self) -> SandboxCapabilities:
        """Say what the backend can do; what is enforced is known once it is started."""
        return SandboxCapabilities(
            tier="namespace",
            network_modes=offered_modes(),
            snapshots=True,
            expose=_is_root(),
            watch=True,
            pty=True,
            pause=self._host is not None and bool(self._host.cgroups),
            attach=self._settings.owner is not None,
            enforces=self._host.enforced if self._host is not None else frozenset(),
        )

    @property
    def enforced(self) -> frozenset[str]:
        """Return the cgroup controllers in force; where one is missing, rlimits are all there is."""
        return self._host.controllers if self._host is not None else frozenset()

    async def start(self) -> None:
        """Sweep what dead owners left, take over what one of this name left, and make a trial sandbox."""
        if self._host is not None:
            return
        program = find_program(self._settings.bwrap)
        await self._sweep()
        owner, cgroups = await asyncio.to_thread(take_ownership, self._root, self._settings.owner)
        host = await asyncio.to_thread(make_host, self._settings, program, owner.folder, cgroups, self.metrics)
        self._owner, self._host = owner, host
        self._maker = Maker(host, owner.name, self._images, self._templates, self._log, self)
        self._watchdog = Watchdog(owner.folder)
        _at_exit(self)
        for record in read_records(owner.folder):
            self.metrics.sandboxes_adopted += self._maker.adopt(record) is not None
        await self._try_out()

    async def create(self, spec: SandboxSpec) -> BubblewrapSandbox:
        """Create a sandbox: a folder with the spec's files. Its first process starts with its first command.

        Raises `CapabilityError` for what cannot be enforced, `QuotaExceeded` on a full disk or past
        `max_sandboxes`, and `SandboxStartFailed` with the phase for everything else that goes wrong.
        """
        maker = self._require()
        if spec.idempotency_key is None:
            return await maker.make(spec)
        made = self._living.made_for(spec.idempotency_key)
        if made is None:
            made = asyncio.ensure_future(maker.make(spec))
            self._living.keep_key(spec.idempotency_key, made)
        return await asyncio.shield(made)

    async def get(self, identity: str) -> BubblewrapSandbox:
        """Return a living sandbox of this owner by id or name; raises `SandboxNotFound`."""
        return self._living.get(identity)

    async def list(self, *, labels: Mapping[str, str] | None = None, mine: bool = True) -> Sequence[SandboxInfo]:
        """Return the living sandboxes that have all these labels, oldest first; with `mine` false, all owners'."""
        wanted = (labels or {}).items()
        living = [sandbox for sandbox in self._living if sandbox.box.end is None]
        found = [sandbox.describe() for sandbox in living if wanted <= sandbox.spec.labels.items()]
        if not mine:
            others = await asyncio.to_thread(self._others)
            found += [info for info in others if wanted <= info.labels.items()]
            found.sort(key=lambda info: info.created)
        return found

    async def attach(self, identity: str) -> BubblewrapSandbox:
        """Return a sandbox that an earlier process under this owner's name made; `start` took them all over.

        Raises `SandboxNotFound`, and `CapabilityError` for an owner without a name.
        """
        if self._settings.owner is None:
            raise CapabilityError("sandboxes end with an owner that has no name: set `owner` of the bubblewrap backend")
        return self._living.get(identity)

    async def reconcile(self) -> int:
        """Remove what dead owners left; return how many sandboxes that were. Own ones expire by themselves."""
        return await self._sweep()

    async def templates(self) -> Sequence[Template]:
        """Return the snapshots of all owners that share the cache, oldest first."""
        return [stored.public() for stored in await asyncio.to_thread(self._templates.all)]

    async def delete_template(self, identity: str) -> None:
        """Remove a snapshot; sandboxes made from it live on. Raises `SandboxNotFound`."""
        await asyncio.to_thread(self._templates.delete, identity)

    def measure(self) -> BackendMetrics:
        """Return the counts."""
        metrics = self.metrics
        return BackendMetrics(
            sandboxes=len(self._living),
            created=metrics.sandboxes_created,
            deleted=metrics.sandboxes_deleted,
            expired=metrics.sandboxes_expired,
            start_failures=metrics.start_failures,
            infra_failures=metrics.infra_failures + metrics.start_failures,
            commands=metrics.commands + metrics.session_commands,
            start_seconds=dict(metrics.ready_seconds),
        )

    async def close(self) -> None:
        """Delete every sandbox of this owner, and its folder."""
        await asyncio.gather(*(sandbox.delete() for sandbox in self._living))
        await asyncio.gather(*self._expiries, return_exceptions=True)
        await self._close_host()
        owner, self._owner = self._owner, None
        if owner is not None:
            await asyncio.to_thread(owner.release)
        if self._watchdog is not None:
            await asyncio.to_thread(self._watchdog.dismiss)
        self._log.close()

    @property
    def detachable(self) -> bool:
        """Tell whether an owner is named, who finds the sandboxes again."""
        return self._settings.owner is not None

    async def detach(self) -> None:
        """End this instance; the sandboxes are left, without their processes, to the next start under this name."""
        if not self.detachable:
            raise CapabilityError("sandboxes end with an owner that has no name: set `owner` of the bubblewrap backend")
        await asyncio.gather(*(sandbox.leave() for sandbox in self._living))
        await asyncio.gather(*self._expiries, return_exceptions=True)
        owner, watchdog = self._owner, self._watchdog
        if owner is None or watchdog is None or not await asyncio.to_thread(read_records, owner.folder):
            self._living = Living()
            await self.close()
            return
        await self._close_host()
        await asyncio.to_thread(owner.leave)
        watchdog.leave()
        self._living, self._owner, self._watchdog = Living(), None, None
        self._log.close()

    def abandon(self) -> None:
        """Remove what can be removed without an event loop: the way out when the interpreter ends."""
        for sandbox in self._living:
            sandbox.abandon()
        # Where a killed process stays, so does the record: the watchdog and the next owner's sweep find it.
        if self._owner is not None and kill_until_gone(self._host.cgroups if self._host is not None else ()):
            with contextlib.suppress(OSError):
                self._owner.release()
                if self._watchdog is not None:
                    self._watchdog.dismiss()

    # what sandboxes ask of it

    def forget(self, identity: str) -> None:
        """Take note that a sandbox is gone."""
        self._living.remove(identity)
        self._log.forget(identity)
        self.metrics.sandboxes_deleted += 1

    def expire(self, identity: str, why: str) -> None:
        """Delete a sandbox whose time is over."""
        sandbox = self._living.find(identity)
        if sandbox is None:
            return
        self.metrics.sandboxes_expired += 1
        task = asyncio.get_running_loop().create_task(sandbox.delete_because(why, "ttl"))
        self._expiries.add(task)
        task.add_done_callback(self._expiries.discard)

    def require_network(self, policy: NetworkPolicy) -> None:
        """Raise `CapabilityError` for a policy that cannot be enforced here."""
        if policy.mode not in (offered := offered_modes()):
            raise CapabilityError(f"network mode {policy.mode!r} is not offered here, only {', '.join(offered)}")
        require_policy(policy, self._settings.hosts)

    def require_expose(self) -> None:
        """Raise `CapabilityError` where no port can be exposed."""
        if not _is_root():
            raise CapabilityError("exposing a port needs the rights of root: this user cannot enter the network inside")

    async def snapshot(self, identity: str) -> Template:
        """Make a template of a sandbox's files."""
        return (await self._copies().snapshot(self._living.get(identity))).public()

    async def fork(self, identity: str, count: int) -> Sequence[BubblewrapSandbox]:
        """Make sandboxes with the same files."""
        return await self._copies().fork(self._living.get(identity), count)

    @property
    def living(self) -> Living:
        """Return the index of living sandboxes."""
        return self._living

    def _copies(self) -> Copies:
        return Copies(self._require(), self._templates)

    def _require(self) -> Maker:
        if self._maker is None:
            raise SandboxUnavailable("the bubblewrap backend is not started: await its start() first")
        return self._maker

    def _others(self) -> Sequence[SandboxInfo]:
        own = self._owner.name if self._owner is not None else ""
        folders = [folder for folder in self._root.iterdir() if folder.name != own and not folder.name.startswith(".")]
        return [record.info() for folder in folders for record in read_records(folder)]

    async def _close_host(self) -> None:
        host, self._host, self._maker = self._host, None, None
        if host is not None:
            os.close(host.seccomp)
            await asyncio.to_thread(kill_until_gone, host.cgroups)

    async def _sweep(self) -> int:
        """Remove what dead owners left, and their own templates; return how many sandboxes that were."""
        swept = await asyncio.to_thread(reap, self._root)
        self.metrics.owners_reaped += swept.owners
        await asyncio.to_thread(self._templates.sweep)
        return swept.sandboxes

    async def _try_out(self) -> None:
        try:
            sandbox = await self.create(SandboxSpec())
            await sandbox.exec(["true"], check=True)
            await sandbox.delete()
        except (SandboxError, OSError) as error:
            await self.close()
            raise explain(error) from error


def _is_root() -> bool:
    return os.geteuid() == 0


def _at_exit(backend: BubblewrapBackend) -> None:
    reference = weakref.ref(backend)

    def abandon() -> None:
        if (left := reference()) is not None:
            left.abandon()

    atexit.register(abandon)
    finalizer = weakref.finalize(backend, atexit.unregister, abandon)
    finalizer.atexit = False  # it would take the function away just before its time
