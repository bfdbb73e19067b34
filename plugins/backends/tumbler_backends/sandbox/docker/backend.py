"""The Docker backend: owns sandboxes on one engine, finds them again, and removes those that dead owners left."""

import asyncio
import contextlib
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import aiodocker

from tumbler.contracts.sandbox import IsolationTier, Sandbox, SandboxCapabilities, SandboxSpec
from tumbler.contracts.sandbox_control import BackendMetrics, SandboxInfo, Template
from tumbler.errors import CapabilityError, SandboxDied, SandboxError, SandboxNotFound, SandboxUnavailable
from tumbler_backends.sandbox.docker.admission import enforced_limits, require_enforceable
from tumbler_backends.sandbox.docker.census import all_records
from tumbler_backends.sandbox.docker.choosing import choose_runtime, goes_past
from tumbler_backends.sandbox.docker.container import Container
from tumbler_backends.sandbox.docker.control import describe
from tumbler_backends.sandbox.docker.counting import Counts
from tumbler_backends.sandbox.docker.deaths import cause_of_death
from tumbler_backends.sandbox.docker.engine import Engine
from tumbler_backends.sandbox.docker.forking import fork_all
from tumbler_backends.sandbox.docker.guard import Guard, remove_empty_owners
from tumbler_backends.sandbox.docker.holding import LocalHolder
from tumbler_backends.sandbox.docker.holding_remote import RemoteHolder
from tumbler_backends.sandbox.docker.images import Image
from tumbler_backends.sandbox.docker.lifetimes import Lifetimes
from tumbler_backends.sandbox.docker.living import AnySandbox, Living
from tumbler_backends.sandbox.docker.maker import Holder, Maker
from tumbler_backends.sandbox.docker.monitor import Monitor
from tumbler_backends.sandbox.docker.network import offered_modes
from tumbler_backends.sandbox.docker.owned import OwnedSandbox
from tumbler_backends.sandbox.docker.owners import (
    Owner,
    Record,
    claim,
    default_root,
    is_abandoned,
)
from tumbler_backends.sandbox.docker.settings import DockerSettings

__all__ = ["DockerBackend"]


class DockerBackend:
    """Makes sandboxes as containers of one engine.

    Call `start` before anything else, and `close` at the end, in one event loop.
    """

    def __init__(self, settings: DockerSettings) -> None:
        """Keep the settings; nothing is touched before `start`."""
        self._settings = settings
        self._root = settings.root or default_root()
        self._engine: Engine | None = None
        self._owner: Owner | None = None
        self._maker: Maker | None = None
        self._monitor: Monitor | None = None
        self._guard: Guard | None = None
        self._living = Living()
        self._lifetimes = Lifetimes()
        self._counts = Counts()
        self._tier: IsolationTier = "namespace"
        self._local = True
        self._modes: tuple[str, ...] = ("none",)
        self._limits: frozenset[str] = frozenset()

    @property
    def capabilities(self) -> SandboxCapabilities:
        """Say what the backend can do.

        What depends on the engine is known once it is started: before, no limit is said to be enforced, and no network
        mode but `none` to be offered.
        """
        return SandboxCapabilities(
            tier=self._tier,
            network_modes=self._modes,
            snapshots=self._local,
            pause=True,
            expose=self._local,
            watch=self._local,
            pty=self._local,
            attach=True,
            shared_processes=True,
            enforces=self._limits,
        )

    async def start(self) -> None:
        """Connect to the engine, remove what dead owners left, and take over what this owner's name has."""
        if self._engine is not None:
            return
        engine = await Engine.connect(self._settings)
        try:
            runtime, self._tier = choose_runtime(engine, self._settings)
            self._owner = await asyncio.to_thread(claim, self._root, self._settings.owner)
            self._limits = enforced_limits(engine.facts, self._settings)
            holder = self._choose_holder(engine)
            self._maker = Maker(engine, self._settings, self._owner, root=self._root, runtime=runtime, holder=holder)
            self._guard = Guard(engine.address, self._owner)
            self._engine = engine
            self._monitor = Monitor(engine, self._suspend_all, self._recover_all)
            await self.reconcile()
            if self._owner.named:
                await self._adopt()
        except BaseException:
            self._engine = engine
            await self.close()
            raise

    async def create(self, spec: SandboxSpec) -> AnySandbox:
        """Create a sandbox that is ready for its first command."""
        engine, _ = self._started()
        require_enforceable(
            spec,
            tier=self._tier,
            limits=self._limits,
            modes=self._modes,
            hosts=self._settings.hosts,
            socket=engine.address.removeprefix("unix://") if engine.address.startswith("unix://") else "",
        )
        if spec.idempotency_key is not None:
            return await self._living.once(spec.idempotency_key, lambda: self._create(spec))
        return await self._create(spec)

    async def get(self, identity: str) -> AnySandbox:
        """Return a living sandbox of this owner by id or name."""
        return self._living.get(identity)

    async def list(self, *, labels: Mapping[str, str] | None = None, mine: bool = True) -> Sequence[SandboxInfo]:
        """Return the living sandboxes that have all these labels, oldest first; with `mine` false, all owners'."""
        if mine:
            infos = [await sandbox.info() for sandbox in self._living]
        else:
            records = [record for record in await self._records() if record.running]
            infos = [describe(record, self._tier, paused=record.paused) for record in records]
        asked = (labels or {}).items()
        found = [info for info in infos if asked <= info.labels.items()]
        return sorted(found, key=lambda info: info.created)

    async def attach(self, identity: str) -> AnySandbox:
        """Take over a living sandbox that another process made."""
        with contextlib.suppress(SandboxNotFound):
            return self._living.get(identity)
        _, maker = self._started()
        for record in await self._records():
            if record.running and identity in (record.id, record.spec.name):
                with self._living.named(record.spec.name):
                    sandbox = await maker.attach(record)
                self._register(sandbox)
                return sandbox
        raise SandboxNotFound(f"the engine has no living sandbox with the id or name {identity!r}")

    async def reconcile(self) -> int:
        """Remove what is past its time and what dead owners left; return how many sandboxes that were."""
        engine, maker = self._started()
        removed = 0
        for record in await self._records():
            if record.id in self._living:
                continue
            dead = not record.running and record.owner == self._owner_name
            if dead or is_abandoned(record, self._root):
                await Container(engine, record.container).remove()
                maker.remove_folder(record)
                removed += 1
        await maker.templates.sweep()
        await asyncio.to_thread(remove_empty_owners, self._root)
        return removed

    async def templates(self) -> Sequence[Template]:
        """Return the snapshots, oldest first."""
        return await self._started()[1].templates.list() if self._local else []

    async def delete_template(self, identity: str) -> None:
        """Remove a snapshot; sandboxes made from it live on."""
        await self._started()[1].templates.delete(identity)

    def measure(self) -> BackendMetrics:
        """Return the counts."""
        lives = [sandbox.life for sandbox in self._living]
        return self._counts.measure(
            living=len(self._living),
            commands=sum(life.commands for life in lives),
            infra_failures=sum(life.infra_failures for life in lives),
        )

    async def close(self) -> None:
        """Delete every sandbox that this instance created or took over."""
        await self._lifetimes.close()
        outcomes = await asyncio.gather(
            *(sandbox.delete() for sandbox in self._living if self._is_mine(sandbox)), return_exceptions=True
        )
        await self._lifetimes.close()
        failures = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        await self._end(leaving=bool(failures))
        if failures:
            raise failures[0]

    @property
    def detachable(self) -> bool:
        """Tell whether an owner is named, who finds the sandboxes again."""
        return self._settings.owner is not None

    async def detach(self) -> None:
        """End this instance; the containers go on, for the next start under this name, without what commands ran."""
        if not self.detachable:
            raise CapabilityError("sandboxes end with an owner that has no name: set `owner` of the docker backend")
        if not any(self._is_mine(sandbox) for sandbox in self._living):
            await self.close()
            return
        await self._lifetimes.close()
        for sandbox in self._living:
            why = "its owner has left it to the next one of the same name"
            sandbox.life.die(sandbox.controlled.died(why, "host"))
            await sandbox.life.end_commands()
            if self._maker is not None:
                await self._maker.holder.let_go(sandbox)
        self._living = Living()
        await self._end(leaving=True)

    async def _end(self, *, leaving: bool) -> None:
        """Close all that is open; with `leaving` sandboxes stay, and the watchdog sees to their end."""
        if self._monitor is not None:
            await self._monitor.close()
        if self._maker is not None:
            with contextlib.suppress(SandboxError, aiodocker.DockerError):
                await self._maker.templates.sweep()
            await self._maker.holder.close()
        if self._engine is not None:
            await self._engine.close()
        # The name is free before the watchdog looks whether it is.
        if self._owner is not None:
            self._owner.release()
            if not leaving:
                shutil.rmtree(self._owner.folder, ignore_errors=True)
        if self._guard is not None:
            self._guard.end(with_work=leaving)
        self._engine = self._owner = self._maker = self._monitor = self._guard = None

    async def remove(self, sandbox: OwnedSandbox) -> None:
        """Remove a sandbox's container and all that is kept of it; for the sandbox."""
        _, maker = self._started(although_down=True)
        self._lifetimes.forget(sandbox.id)
        record = sandbox.controlled.record
        if self._living.remove(sandbox):
            self._counts.deleted += 1
            self._counts.commands += sandbox.life.commands
            self._counts.infra_failures += sandbox.life.infra_failures
        try:
            await sandbox.controlled.container.remove()
        finally:
            await maker.holder.let_go(sandbox)
        maker.remove_folder(record)

    async def snapshot(self, sandbox: OwnedSandbox) -> Template:
        """Copy a sandbox's files; for the sandbox."""
        return await self._started()[1].snapshot(sandbox)

    async def fork(self, sandbox: OwnedSandbox, count: int) -> Sequence[Sandbox]:
        """Make sandboxes like one; for the sandbox."""
        if count < 1:
            raise ValueError(f"at least one fork must be asked for, not {count}")
        _, maker = self._started()
        spec = replace(sandbox.spec, name=None, idempotency_key=None, files={}, healthcheck=None)
        return await fork_all(maker, sandbox, count, lambda image: self._make(spec, image))

    async def _create(self, spec: SandboxSpec) -> AnySandbox:
        _, maker = self._started()
        with self._living.named(spec.name):
            return await self._make(spec, await maker.find_image(spec))

    async def _make(self, spec: SandboxSpec, image: Image) -> AnySandbox:
        _, maker = self._started()
        began = time.perf_counter()
        try:
            sandbox = await maker.make(spec, image)
        except SandboxError as error:
            self._counts.start_failures += 1
            self._counts.infra_failures += error.infra
            raise
        self._register(sandbox)
        self._counts.started(time.perf_counter() - began)
        return sandbox

    def _register(self, sandbox: AnySandbox) -> None:
        self._living.add(sandbox)
        self._arm(sandbox)
        sandbox.life.gone.add_done_callback(lambda _: self._lifetimes.run(lambda: self._bury(sandbox)))

    def _arm(self, sandbox: OwnedSandbox) -> None:
        """Set the timers of its life."""
        life, ttl = sandbox.life, sandbox.spec.ttl

        async def expire() -> None:
            await self._expire(sandbox, f"its time to live of {ttl} s, or what it was extended to, is over")

        async def idle_out() -> None:
            await self._expire(sandbox, f"nothing happened in it for {sandbox.spec.idle_ttl} s")

        self._lifetimes.expire_at(sandbox.id, sandbox.controlled.record.expires, expire)
        if sandbox.spec.idle_ttl is not None:
            self._lifetimes.watch_idling(sandbox.id, sandbox.spec.idle_ttl, life.idle_seconds, idle_out)

    async def _expire(self, sandbox: OwnedSandbox, why: str) -> None:
        if sandbox.id in self._living and self._is_mine(sandbox):
            self._counts.expired += 1
            await sandbox.delete_because(why, "ttl")

    async def _bury(self, sandbox: OwnedSandbox) -> None:
        """Say why a container has ended that nobody asked to end, and remove it."""
        if sandbox.life.death is not None:
            return
        why, cause = await cause_of_death(sandbox.controlled.container)
        sandbox.life.die(SandboxDied(f"sandbox {sandbox.id} is gone: {why}; create another", cause))
        with contextlib.suppress(SandboxError):  # the engine is down: the sweep at its return does it
            await sandbox.delete_because(why, cause)

    def _suspend_all(self, error: SandboxUnavailable) -> None:
        for sandbox in self._living:
            sandbox.life.suspend(error)

    async def _recover_all(self) -> None:
        """Let the sandboxes that outlived the engine's absence go on, and bury the others."""
        for sandbox in self._living:
            state = await sandbox.controlled.container.state()
            if state is not None and state.running:
                sandbox.life.recover()
            else:
                why = "the Docker engine was restarted"
                sandbox.life.die(sandbox.controlled.died(why, "host"))
                self._lifetimes.run(partial(sandbox.delete_because, why, "host"))
        await self.reconcile()

    async def _adopt(self) -> None:
        """Take over the sandboxes that the last process of this owner's name has left."""
        _, maker = self._started()
        for record in await self._records():
            if record.owner != self._owner_name or record.id in self._living:
                continue
            with contextlib.suppress(SandboxError):  # what cannot be used any more is removed at its time
                with self._living.named(record.spec.name):
                    sandbox = await maker.attach(record)
                self._register(sandbox)

    async def _records(self) -> Sequence[Record]:
        """Return what the engine knows of all owners' sandboxes."""
        return await all_records(self._started()[0], self._root)

    def _keep(self, record: Record) -> None:
        record.save(self._root)
        if record.id in self._living:
            self._arm(self._living.get(record.id))

    def _is_mine(self, sandbox: OwnedSandbox) -> bool:
        """Tell whether no other process has taken a sandbox over."""
        return sandbox.controlled.record.load(self._root).owner == self._owner_name

    @property
    def _owner_name(self) -> str:
        return self._owner.name if self._owner is not None else ""

    def _started(self, *, although_down: bool = False) -> tuple[Engine, Maker]:
        if self._engine is None or self._maker is None or self._monitor is None:
            raise SandboxUnavailable("the docker backend is not started: await its start() first")
        if not although_down:
            self._monitor.require()
        return self._engine, self._maker

    def _choose_holder(self, engine: Engine) -> Holder:
        """Go past the engine where that can be, and say what is offered."""
        self._local = goes_past(engine, self._settings, self._tier)
        self._modes = offered_modes(past_the_engine=self._local)
        if not self._local:
            return RemoteHolder(engine, self._settings, root=self._root, tier=self._tier, keeper=self, kept=self._keep)
        return LocalHolder(
            self._settings, root=self._root, tier=self._tier, modes=self._modes, keeper=self, kept=self._keep
        )
