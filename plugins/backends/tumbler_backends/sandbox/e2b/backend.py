"""The E2B backend: owns sandboxes of the service, finds them again, and removes those that dead owners left."""

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from e2b import AsyncSandbox
from e2b.exceptions import NotFoundException

from tumbler.contracts.sandbox import Sandbox, SandboxCapabilities, SandboxSpec
from tumbler.contracts.sandbox_control import BackendMetrics, SandboxInfo, Template
from tumbler.errors import (
    CapabilityError,
    SandboxError,
    SandboxNameTaken,
    SandboxNotFound,
    SandboxStartFailed,
    SandboxUnavailable,
)
from tumbler_backends.sandbox.e2b.admission import require_enforceable
from tumbler_backends.sandbox.e2b.control import Control
from tumbler_backends.sandbox.e2b.counting import Counts
from tumbler_backends.sandbox.e2b.labels import KEY, NAME, OWNER, metadata_of, spec_from
from tumbler_backends.sandbox.e2b.life import Life
from tumbler_backends.sandbox.e2b.owners import anonymous_owner, is_dead
from tumbler_backends.sandbox.e2b.sandbox import E2bSandbox
from tumbler_backends.sandbox.e2b.service import Service
from tumbler_backends.sandbox.e2b.settings import E2bSettings
from tumbler_backends.sandbox.e2b.starting import prepare
from tumbler_backends.sandbox.e2b.wire import ERRORS, Wire, told

__all__ = ["E2bBackend"]

_IDLE_CHECK_S: Final = 0.25
_NOT_FOUND: Final = 404
_ID: Final = re.compile(r"[A-Za-z0-9-]+")
"""What can be an id; anything else is a name, which must not become part of a path."""

Answer = TypeVar("Answer")


class E2bBackend:
    """Makes sandboxes at E2B. Call `start` before `create`, and `close` at the end, in one event loop."""

    def __init__(self, settings: E2bSettings) -> None:
        """Keep the settings; nobody is contacted before `start`."""
        self._settings = settings
        self._service = Service(settings)
        self._owner = settings.owner or anonymous_owner()
        self._sandboxes: dict[str, E2bSandbox] = {}
        self._starting: set[str] = set()
        """Names of sandboxes that the service may not list yet."""
        self._keys: dict[str, asyncio.Lock] = {}
        self._counts = Counts()
        self._watching: asyncio.Task[None] | None = None

    @property
    def settings(self) -> E2bSettings:
        """Return the settings."""
        return self._settings

    @property
    def exposes(self) -> bool:
        """Tell whether ports inside have addresses."""
        return self._service.exposes

    @property
    def capabilities(self) -> SandboxCapabilities:
        """Say what the backend can do."""
        return SandboxCapabilities(
            tier=self._settings.tier,
            network_modes=self._settings.network_modes,
            snapshots=True,
            pause=True,
            expose=self.exposes,
            watch=True,
            pty=True,
            attach=True,
            shared_processes=self._settings.shared_processes,
        )

    async def start(self) -> None:
        """Check that the service answers, and sweep what dead owners left."""
        if not self._service.has_key:
            raise SandboxUnavailable("there is no API key for E2B: set E2B_API_KEY in the environment")
        await self.reconcile()
        if self._watching is None:
            self._watching = asyncio.get_running_loop().create_task(self._watch_idle())

    async def create(self, spec: SandboxSpec) -> E2bSandbox:
        """Create a sandbox that is ready for its first command."""
        if self._watching is None:
            raise SandboxUnavailable("the e2b backend is not started: await its start() first")
        require_enforceable(spec, self._settings)
        if spec.idempotency_key is None:
            return await self._create(spec)
        async with self._keys.setdefault(spec.idempotency_key, asyncio.Lock()):
            before = await self._find({KEY: spec.idempotency_key})
            return before if before is not None else await self._create(spec)

    async def close(self) -> None:
        """Delete every sandbox that this instance created."""
        await self._stop_watching()
        await asyncio.gather(*(sandbox.delete() for sandbox in tuple(self._sandboxes.values())))

    @property
    def detachable(self) -> bool:
        """Tell whether an owner is named, who finds the sandboxes again."""
        return self._settings.owner is not None

    async def detach(self) -> None:
        """End this instance, and leave its sandboxes with E2B, which ends them at their time."""
        if not self.detachable:
            raise CapabilityError("sandboxes end with an owner that has no name: set `owner` of the e2b backend")
        await self._stop_watching()
        for sandbox in tuple(self._sandboxes.values()):
            await sandbox.let_go()
        self._sandboxes.clear()

    async def get(self, identity: str) -> E2bSandbox:
        """Return a living sandbox of this owner by id or name."""
        for sandbox in self._living():
            if identity in {sandbox.id, sandbox.spec.name}:
                return sandbox
        for info in await self._called(self._service.listed({OWNER: self._owner})):
            if identity in {info.sandbox_id, info.metadata.get(NAME)}:
                return await self.attach(info.sandbox_id)
        raise SandboxNotFound(f"there is no living sandbox {identity!r} of the owner {self._owner!r}")

    async def list(self, *, labels: Mapping[str, str] | None = None, mine: bool = True) -> Sequence[SandboxInfo]:
        """Return the living sandboxes that have all these labels, oldest first."""
        wanted = {**(labels or {}), **({OWNER: self._owner} if mine else {})}
        return [self._service.described(info) for info in await self._called(self._service.listed(wanted))]

    async def attach(self, identity: str) -> E2bSandbox:
        """Take over a living sandbox that another process made; a paused one goes on."""
        for sandbox in self._living():
            if identity in {sandbox.id, sandbox.spec.name}:
                return sandbox
        found = await self._connected(identity)
        if found is not None:
            return found
        for named in await self._called(self._service.listed({NAME: identity})):
            if (found := await self._connected(named.sandbox_id)) is not None:
                return found
        raise SandboxNotFound(f"there is no living sandbox {identity!r}")

    async def reconcile(self) -> int:
        """Remove what dead owners left; the service itself removes what is past its time."""
        removed = 0
        for info in await self._called(self._service.listed({})):
            if is_dead(info.metadata.get(OWNER, "")):
                removed += await self._called(self._service.kill(info.sandbox_id))
        return removed

    async def templates(self) -> Sequence[Template]:
        """Return the account's snapshots, oldest first."""
        return await self._called(self._service.templates())

    async def delete_template(self, identity: str) -> None:
        """Remove a snapshot."""
        if not await self._called(self._service.delete_template(identity)):
            raise SandboxNotFound(f"there is no template {identity!r}")

    def measure(self) -> BackendMetrics:
        """Return the counts."""
        return self._counts.metrics(len(self._living()))

    # What sandboxes ask of their backend: `tumbler_backends.sandbox.e2b.control.Keeper`.

    def forget(self, identity: str) -> None:
        """Learn that a sandbox is gone."""
        if self._sandboxes.pop(identity, None) is not None:
            self._counts.deleted += 1

    def count_command(self) -> None:
        """Count a command."""
        self._counts.commands += 1

    async def info(self, identity: str) -> SandboxInfo:
        """Ask the service about a sandbox."""
        return self._service.described(await self._service.look_up(identity))

    async def snapshot(self, source: Control) -> Template:
        """Make a template of a sandbox's files."""
        return await self._service.snapshot(source.wire.sdk)

    async def copies(self, source: Control, count: int) -> Sequence[Sandbox]:
        """Make sandboxes of the same spec with the same files, over a template that is removed again."""
        template = await source.snapshot()
        spec = replace(
            source.spec, template=template.id, image=None, files={}, name=None, idempotency_key=None, healthcheck=None
        )
        try:
            made = await asyncio.gather(*(self._create(spec) for _ in range(count)), return_exceptions=True)
        finally:
            await self._called(self._service.delete_template(template.id))
        copies = [each for each in made if isinstance(each, E2bSandbox)]
        for failure in made:
            if isinstance(failure, BaseException):
                await asyncio.gather(*(copy.delete() for copy in copies))
                raise failure
        return copies

    async def _stop_watching(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
            self._watching = None

    async def _create(self, spec: SandboxSpec) -> E2bSandbox:
        began = time.perf_counter()
        await self._reserve(spec.name)
        try:
            sandbox = self._kept(await self._begun(spec), spec, time.time() + max(1.0, spec.ttl))
            try:
                await prepare(sandbox, spec)
            except BaseException:
                await sandbox.delete()
                raise
        except BaseException as error:
            self._counts.start_failures += 1
            if isinstance(error, SandboxError) and error.infra:
                self._counts.infra_failures += 1
            raise
        finally:
            self._starting.discard(spec.name or "")
        self._counts.started(time.perf_counter() - began)
        return sandbox

    async def _begun(self, spec: SandboxSpec) -> AsyncSandbox:
        try:
            async with asyncio.timeout(spec.startup_timeout):
                return await self._service.create(spec, metadata_of(spec, self._owner))
        except TimeoutError as error:
            raise SandboxStartFailed(f"E2B made no sandbox within {spec.startup_timeout} s", "create") from error
        except ERRORS as error:
            if isinstance(error, NotFoundException) or getattr(error, "status_code", None) == _NOT_FOUND:
                if spec.template is None:
                    raise CapabilityError(f"E2B has no template {spec.image!r} to be the image: {error}") from error
                raise SandboxNotFound(f"E2B has no template {spec.template!r}: {error}") from error
            known = told(error)
            if type(known) is SandboxError:
                raise SandboxStartFailed(f"E2B made no sandbox: {error}", "create") from error
            raise known from error

    async def _reserve(self, name: str | None) -> None:
        """Take a name; raise `SandboxNameTaken` where a living sandbox of this owner has it."""
        if name is None:
            return
        taken = SandboxNameTaken(f"a living sandbox already has the name {name!r}: delete it, or choose another name")
        if name in self._starting:
            raise taken
        self._starting.add(name)
        if await self._called(self._service.listed({OWNER: self._owner, NAME: name})):
            self._starting.discard(name)
            raise taken

    def _kept(self, sdk: AsyncSandbox, spec: SandboxSpec, expires: float) -> E2bSandbox:
        wire = Wire(sdk, Life(sdk.sandbox_id, expires), spec.user, self._settings.request_timeout)
        sandbox = self._sandboxes[sdk.sandbox_id] = E2bSandbox(wire, spec, self)
        return sandbox

    def _living(self) -> Sequence[E2bSandbox]:
        return tuple(sandbox for sandbox in self._sandboxes.values() if not sandbox.wire.life.ended)

    async def _connected(self, identity: str) -> E2bSandbox | None:
        """Return the living sandbox of this id; None where there is none."""
        if not _ID.fullmatch(identity):
            return None
        try:
            info = await self._service.look_up(identity)
            sdk = await self._service.connect(identity)
        except NotFoundException:
            return None
        except ERRORS as error:
            raise told(error) from error
        return self._kept(sdk, spec_from(info.metadata), self._service.described(info).expires)

    async def _find(self, metadata: Mapping[str, str]) -> E2bSandbox | None:
        for info in await self._called(self._service.listed({OWNER: self._owner, **metadata})):
            return await self.attach(info.sandbox_id)
        return None

    async def _called(self, call: Awaitable[Answer]) -> Answer:
        """Return what a call of the control plane answers; raise Tumbler's errors for E2B's."""
        try:
            return await call
        except ERRORS as error:
            raise told(error) from error

    async def _watch_idle(self) -> None:
        """End what nobody uses, as E2B does not do it, and drop what is known to be gone."""
        while True:
            await asyncio.sleep(_IDLE_CHECK_S)
            for sandbox in tuple(self._sandboxes.values()):
                life, bound = sandbox.wire.life, sandbox.spec.idle_ttl
                if life.ended:
                    self._counts.expired += 1
                    self.forget(sandbox.id)
                elif bound is not None and life.idle_seconds() > bound:
                    with contextlib.suppress(SandboxError):  # it ends with its time to live at the latest
                        await sandbox.delete_because(f"nobody used it for {bound} s", "ttl")
