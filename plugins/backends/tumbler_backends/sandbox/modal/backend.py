"""The modal backend: owns sandboxes on Modal, and removes those that dead owners left."""

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import modal

from tumbler.contracts.sandbox import Sandbox, SandboxCapabilities, SandboxSpec
from tumbler.contracts.sandbox_control import BackendMetrics, SandboxInfo, Template
from tumbler.errors import CapabilityError, SandboxError, SandboxNotFound, SandboxStartFailed, SandboxUnavailable
from tumbler_backends.sandbox.modal.account import Account
from tumbler_backends.sandbox.modal.admission import ENFORCED, network_modes, require_enforceable
from tumbler_backends.sandbox.modal.cloud import ModalCloud
from tumbler_backends.sandbox.modal.counts import Counts
from tumbler_backends.sandbox.modal.owners import anonymous_owner, is_dead, named_owner
from tumbler_backends.sandbox.modal.sandbox import ModalSandbox
from tumbler_backends.sandbox.modal.settings import ModalSettings
from tumbler_backends.sandbox.modal.starting import prepare, settle
from tumbler_backends.sandbox.modal.tags import CREATION, KEY, OWNER, Passport

__all__ = ["ModalBackend"]

_ID: Final = "modal"


class ModalBackend:
    """Makes sandboxes on Modal; keeps `tumbler.contracts.sandbox_control.ManagedBackend`.

    Call `start` before `create`, and `close` at the end, in one event loop.
    """

    def __init__(self, settings: ModalSettings) -> None:
        """Keep the settings; nothing is called before `start`."""
        self.settings = settings
        self.counts = Counts()
        self._owner = named_owner(settings.owner) if settings.owner else anonymous_owner()
        self._account: Account | None = None
        self._sandboxes: dict[str, ModalSandbox] = {}
        self._templates: dict[str, Template] = {}
        self._keys: dict[str, asyncio.Lock] = {}

    @property
    def capabilities(self) -> SandboxCapabilities:
        """Say what the backend can do."""
        return SandboxCapabilities(
            tier=self.settings.tier,
            network_modes=network_modes(self.settings),
            snapshots=True,
            expose=bool(self.settings.ports),
            attach=True,
            shared_processes=True,
            enforces=ENFORCED,
        )

    async def start(self) -> None:
        """Connect to Modal, and remove what dead owners left."""
        if self._account is None:
            self._account = await Account.open(self.settings)
            try:
                await self.reconcile()
            except BaseException:
                await self.close()
                raise

    async def create(self, spec: SandboxSpec) -> ModalSandbox:
        """Create a sandbox that is ready for its first command."""
        account = self._require_account()
        require_enforceable(spec, self.settings)
        if spec.idempotency_key is None:
            return await self._create(account, spec)
        async with self._keys.setdefault(spec.idempotency_key, asyncio.Lock()):
            async for found, tags in account.living({OWNER: self._owner, KEY: spec.idempotency_key}):
                return self._held(str(found.object_id)) or self._kept(self._adopt(found, tags))
            return await self._create(account, spec)

    async def close(self) -> None:
        """Delete every sandbox that this instance created, and let go of the connection."""
        account, self._account = self._account, None
        try:
            await asyncio.gather(*(sandbox.delete() for sandbox in tuple(self._sandboxes.values())))
        finally:
            if account is not None:
                await account.close()

    @property
    def detachable(self) -> bool:
        """Tell whether an owner is named, who finds the sandboxes again."""
        return self.settings.owner is not None

    async def detach(self) -> None:
        """End this instance, and leave its sandboxes with Modal, where they end at their time."""
        if not self.detachable:
            raise CapabilityError("sandboxes end with an owner that has no name: set `owner` of the modal backend")
        account, self._account = self._account, None
        try:
            for sandbox in tuple(self._sandboxes.values()):
                await sandbox.let_go()
                if account is not None:
                    await account.let_go(sandbox.cloud.sandbox)
        finally:
            self._sandboxes.clear()
            if account is not None:
                await account.close()

    async def get(self, identity: str) -> ModalSandbox:
        """Return a living sandbox of this owner by id or name."""
        sandbox = await self._find(identity)
        if sandbox.passport.owner != self._owner:
            if sandbox.id not in self._sandboxes:
                await self._require_account().let_go(sandbox.cloud.sandbox)
            raise SandboxNotFound(f"the sandbox {identity!r} is another owner's: attach to it instead")
        return self._kept(sandbox)

    async def list(self, *, labels: Mapping[str, str] | None = None, mine: bool = True) -> Sequence[SandboxInfo]:
        """Return the living sandboxes of the app that have all these labels, oldest first."""
        wanted = {**(labels or {}), **({OWNER: self._owner} if mine else {})}
        infos = [
            self._described(str(sandbox.object_id), tags)
            async for sandbox, tags in self._require_account().living(wanted)
        ]
        return sorted(infos, key=lambda info: info.created)

    async def attach(self, identity: str) -> ModalSandbox:
        """Take over a living sandbox of the app that another process made."""
        return self._kept(await self._find(identity))

    async def reconcile(self) -> int:
        """Remove what is past its time and what dead owners left; return how many sandboxes that were."""
        account = self._require_account()
        removed = 0
        async for sandbox, tags in account.living({}):
            passport = Passport.of(tags)
            if is_dead(passport.owner) or (passport.owner and passport.expires < time.time()):
                await account.terminate(sandbox)
                self.counts.expired += passport.expires < time.time()
                removed += 1
        return removed

    async def templates(self) -> Sequence[Template]:
        """Return the snapshots that this instance took, oldest first: Modal lists none."""
        return sorted(self._templates.values(), key=lambda template: template.created)

    async def delete_template(self, identity: str) -> None:
        """Remove a snapshot."""
        await self._require_account().delete_image(identity)
        self._templates.pop(identity, None)

    def measure(self) -> BackendMetrics:
        """Return the counts."""
        return self.counts.metrics(sum(sandbox.cloud.death is None for sandbox in self._sandboxes.values()))

    # What sandboxes ask of their backend: `tumbler_backends.sandbox.modal.sandbox.Keeper`.

    def forget(self, identity: str) -> None:
        """Learn that a sandbox is gone."""
        if self._sandboxes.pop(identity, None) is not None:
            self.counts.deleted += 1

    def keep(self, template: Template) -> None:
        """Learn of a new template."""
        self._templates[template.id] = template

    async def copies(self, source: ModalSandbox, count: int) -> Sequence[Sandbox]:
        """Make sandboxes of the same spec with the same files, over a template that is removed again."""
        account = self._require_account()
        template = await source.snapshot()
        spec = replace(
            source.spec, template=template.id, image=None, files={}, name=None, idempotency_key=None, healthcheck=None
        )
        try:
            made = await asyncio.gather(*(self._create(account, spec) for _ in range(count)), return_exceptions=True)
        finally:
            await self.delete_template(template.id)
        copies = [each for each in made if isinstance(each, ModalSandbox)]
        for failure in made:
            if isinstance(failure, BaseException):
                await asyncio.gather(*(copy.delete() for copy in copies))
                raise failure
        return copies

    async def _create(self, account: Account, spec: SandboxSpec) -> ModalSandbox:
        began = time.perf_counter()
        created = time.time()
        passport = Passport(
            owner=self._owner, created=created, expires=created + spec.ttl, creation=secrets.token_hex(16), user=""
        )
        try:
            image = await account.images.image_of(spec)
            try:
                sandbox = await self._begun(account, spec, image, passport)
            except BaseException:
                await self._remove_stray(account, passport)
                raise
            try:
                await prepare(sandbox, spec)
            except BaseException:
                await sandbox.delete()
                raise
        except BaseException as error:
            self.counts.start_failures += 1
            self.counts.infra_failures += isinstance(error, SandboxError) and error.infra
            raise
        self.counts.started(time.perf_counter() - began)
        return sandbox

    async def _begun(self, account: Account, spec: SandboxSpec, image: modal.Image, passport: Passport) -> ModalSandbox:
        try:
            made = await account.create(spec, image, passport.tags(spec))
        except SandboxError as error:
            if type(error) is SandboxError or (error.retryable and "within" in str(error)):
                raise SandboxStartFailed(str(error), "create") from error
            raise
        cloud = ModalCloud(made, spec.workdir, self.settings)
        await settle(cloud, spec, self.settings.user_id, spec.startup_timeout)
        passport = replace(passport, user=cloud.user)
        return self._kept(ModalSandbox(cloud, spec, passport, self))

    async def _remove_stray(self, account: Account, passport: Passport) -> None:
        """Remove a sandbox that Modal may have made though its creation broke off."""
        try:
            async for sandbox, _ in account.living({CREATION: passport.creation}):
                await account.terminate(sandbox)
        except SandboxError:  # its lease ends it
            return

    async def _find(self, identity: str) -> ModalSandbox:
        account = self._require_account()
        held = self._held(identity)
        if held is not None:
            await held.cloud.look()
            if held.cloud.death is None:
                return held
        found = await account.find(identity)
        return self._adopt(found, await found.get_tags.aio())

    def _held(self, identity: str) -> ModalSandbox | None:
        """Return a sandbox that this instance holds, by id or name."""
        for sandbox in self._sandboxes.values():
            if sandbox.cloud.death is None and identity in {sandbox.id, sandbox.spec.name}:
                return sandbox
        return None

    def _adopt(self, found: modal.Sandbox, tags: Mapping[str, str]) -> ModalSandbox:
        if OWNER not in tags:
            raise CapabilityError(f"the sandbox {found.object_id} was not made by Tumbler")
        passport = Passport.of(tags)
        cloud = ModalCloud(found, passport.spec(tags).workdir, self.settings)
        cloud.user = passport.user
        return ModalSandbox(cloud, passport.spec(tags), passport, self)

    def _kept(self, sandbox: ModalSandbox) -> ModalSandbox:
        return self._sandboxes.setdefault(sandbox.id, sandbox)

    def _described(self, identity: str, tags: Mapping[str, str]) -> SandboxInfo:
        passport = Passport.of(tags)
        spec = passport.spec(tags)
        return SandboxInfo(
            id=identity,
            backend=_ID,
            state="running",
            tier=self.settings.tier,
            created=passport.created,
            expires=passport.expires,
            owner=passport.owner,
            name=spec.name,
            image=spec.image,
            labels=spec.labels,
        )

    def _require_account(self) -> Account:
        if self._account is None:
            raise SandboxUnavailable("the modal backend is not started: await its start() first")
        return self._account
