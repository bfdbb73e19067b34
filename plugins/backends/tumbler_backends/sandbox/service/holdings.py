"""Which sandboxes live and whose they are; a tenant sees its own and is told `not found` of all others."""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from tumbler.contracts.sandbox import SandboxSpec, Session
from tumbler.contracts.sandbox_control import CompleteSandbox, ManagedBackend, SandboxInfo, Template
from tumbler.errors import QuotaExceeded, SandboxDied, SandboxError, SandboxNotFound
from tumbler_backends.sandbox.service.admission import Admission
from tumbler_backends.sandbox.service.metrics import ServiceMetrics
from tumbler_backends.sandbox.service.policy import (
    TENANT_LABEL,
    SpecPolicy,
    own_name,
    public_info,
    public_template,
)
from tumbler_backends.sandbox.service.runs import Runs
from tumbler_backends.sandbox.service.tenants import Tenant

__all__ = ["Held", "HeldSession", "Holdings"]

_GONE: Final = 10_000


@dataclass
class HeldSession:
    """An open shell session."""

    session: Session
    runs: Runs = field(default_factory=Runs)


@dataclass
class Held:
    """A living sandbox and what clients have going in it."""

    sandbox: CompleteSandbox
    tenant: str
    runs: Runs = field(default_factory=Runs)
    sessions: dict[str, HeldSession] = field(default_factory=dict)
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a session opens, so that a repeated request opens one."""


class Holdings:
    """The sandboxes of all tenants, over one backend."""

    def __init__(self, backend: ManagedBackend, policy: SpecPolicy, admission: Admission) -> None:
        """Hold nothing yet."""
        self._backend = backend
        self._policy = policy
        self._admission = admission
        self._held: dict[str, Held] = {}
        self._gone: OrderedDict[str, tuple[str, SandboxDied]] = OrderedDict()
        """Ids of sandboxes that are no more → tenant and why."""
        self._coming: dict[str, int] = {}
        """Tenant → sandboxes that are being created."""
        self._templates: dict[str, str] = {}
        """Template → tenant."""
        self.metrics = ServiceMetrics(living=lambda: len(self._held), waiting=lambda: admission.waiting)

    async def refresh(self) -> None:
        """Take up what lives and is not held, such as what an earlier service left, and let go of what died."""
        living = {info.id: info for info in await self._backend.list()}
        for identity in tuple(self._held):
            if identity not in living:
                await self._bury(identity)
        for identity, info in living.items():
            if identity not in self._held and TENANT_LABEL in info.labels:
                with contextlib.suppress(SandboxError):  # it may die at any time
                    self._hold(await self._backend.get(identity), info.labels[TENANT_LABEL])

    def stop(self) -> None:
        """Create nothing any more."""
        self._admission.closed = True

    async def reconcile(self) -> int:
        """Remove what is past its time and what dead owners left; return how many sandboxes that were."""
        removed = await self._backend.reconcile()
        await self.refresh()
        return removed

    async def require_ready(self) -> None:
        """Raise `SandboxUnavailable` where new sandboxes cannot be made now."""
        self._admission.require_open()
        await self._backend.list()

    async def create(self, spec: SandboxSpec, tenant: Tenant) -> Held:
        """Create a sandbox within the tenant's quota, after waiting for a place."""
        admitted = self._policy.admitted(spec, tenant)
        if admitted.template is not None:
            await self._require_template(admitted.template, tenant)
        tenant.count_creation()
        await self._require_room(tenant, 1)
        self._coming[tenant.name] = self._coming.get(tenant.name, 0) + 1
        try:
            async with self._admission.enter():
                with self.metrics.start():
                    sandbox = await self._backend.create(admitted)
        finally:
            self._coming[tenant.name] -= 1
        return self._hold(cast("CompleteSandbox", sandbox), tenant.name)

    async def get(self, identity: str, tenant: Tenant | None) -> Held:
        """Return the tenant's living sandbox of that id or name; without a tenant, anybody's of that id.

        Raises `SandboxDied` for one that lived and `SandboxNotFound` for any other.
        """
        held = self._held.get(identity)
        if held is not None and (tenant is None or held.tenant == tenant.name):
            return held
        owner, error = self._gone.get(identity, ("", None))
        if error is not None and (tenant is None or owner == tenant.name):
            raise SandboxDied(str(error), error.cause)
        for each in (identity,) if tenant is None else dict.fromkeys((identity, own_name(tenant, identity))):
            with contextlib.suppress(SandboxNotFound):
                sandbox = await self._backend.get(each)
                owner = (await sandbox.info()).labels.get(TENANT_LABEL, "")
                if owner and (tenant is None or owner == tenant.name):
                    return self._hold(sandbox, owner)
        raise SandboxNotFound(f"there is no living sandbox {identity!r}")

    async def list(self, tenant: Tenant, labels: Mapping[str, str]) -> Sequence[SandboxInfo]:
        """Return the tenant's living sandboxes that have all these labels."""
        infos = await self._backend.list(labels={**labels, TENANT_LABEL: tenant.name})
        return [public_info(info, tenant) for info in infos]

    async def delete(self, held: Held) -> None:
        """Delete a sandbox; whoever waits for it is told that it is gone."""
        await held.sandbox.delete()
        self._held.pop(held.sandbox.id, None)
        self._remember(held, SandboxDied(f"sandbox {held.sandbox.id} is gone: it was deleted", "deleted"))

    async def fork(self, held: Held, count: int, tenant: Tenant) -> Sequence[Held]:
        """Copy a sandbox within the tenant's quota."""
        await self._require_room(tenant, count)
        async with self._admission.enter():
            copies = await held.sandbox.fork(count)
        return [self._hold(cast("CompleteSandbox", copy), tenant.name) for copy in copies]

    async def snapshot(self, held: Held) -> Template:
        """Make a template that only this tenant sees."""
        template = await held.sandbox.snapshot()
        self._templates[template.id] = held.tenant
        return public_template(template)

    async def templates(self, tenant: Tenant) -> Sequence[Template]:
        """Return the tenant's templates, oldest first."""
        found = await self._backend.templates()
        return [public_template(each) for each in found if self._owner_of(each) == tenant.name]

    async def delete_template(self, identity: str, tenant: Tenant) -> None:
        """Remove one of the tenant's templates."""
        await self._require_template(identity, tenant)
        await self._backend.delete_template(identity)
        self._templates.pop(identity, None)

    async def _require_template(self, identity: str, tenant: Tenant) -> None:
        if not any(each.id == identity for each in await self.templates(tenant)):
            raise SandboxNotFound(f"there is no template {identity!r}")

    def _owner_of(self, template: Template) -> str | None:
        return template.labels.get(TENANT_LABEL) or self._templates.get(template.id)

    async def _require_room(self, tenant: Tenant, count: int) -> None:
        if self._count(tenant) + count > tenant.quota.max_sandboxes:
            await self.refresh()
        if self._count(tenant) + count > tenant.quota.max_sandboxes:
            raise QuotaExceeded(
                f"this token's quota is {tenant.quota.max_sandboxes} living sandboxes, and {self._count(tenant)} live; "
                "delete some first"
            )

    def _count(self, tenant: Tenant) -> int:
        living = sum(held.tenant == tenant.name for held in self._held.values())
        return living + self._coming.get(tenant.name, 0)

    def _hold(self, sandbox: CompleteSandbox, tenant: str) -> Held:
        return self._held.setdefault(sandbox.id, Held(sandbox, tenant))

    async def _bury(self, identity: str) -> None:
        """Let go of a dead sandbox; ask it why it died, for those who ask later."""
        held = self._held.pop(identity, None)
        if held is None:
            return
        error = SandboxDied(f"sandbox {identity} is gone")
        try:
            await held.sandbox.heartbeat()
        except SandboxDied as died:
            error = died
        except SandboxError:
            pass
        self._remember(held, error)

    def _remember(self, held: Held, error: SandboxDied) -> None:
        self._gone[held.sandbox.id] = held.tenant, error
        while len(self._gone) > _GONE:
            self._gone.popitem(last=False)
