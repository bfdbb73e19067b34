"""What the front end asks of the service behind it, and the thinnest such service: one backend; knows no HTTP."""

import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol, runtime_checkable

from tumbler.contracts.sandbox import SandboxSpec
from tumbler.contracts.sandbox_control import CompleteSandbox, ManagedBackend, SandboxInfo, Template
from tumbler.errors import ContractError, SandboxNotFound

__all__ = ["TENANT_LABEL", "BackendGate", "Gate"]

TENANT_LABEL: Final = "tumbler.tenant"
"""The label that says whose a sandbox is; clients neither set nor see labels that begin with `tumbler.`."""


@runtime_checkable
class Gate(Protocol):
    """Sandboxes of tenants. A tenant of None means whoever's: the caller has shown the sandbox's own token.

    Errors are those of `tumbler.errors`: `SandboxNotFound`, `QuotaExceeded`, `CapabilityError` and so on.
    """

    @property
    def secret(self) -> bytes:
        """Return the key that access tokens are derived from; the same after a restart that keeps sandboxes."""
        ...

    async def authenticate(self, api_key: str) -> str | None:
        """Return the tenant that an API key belongs to; None for a wrong key."""
        ...

    async def create(self, tenant: str, spec: SandboxSpec) -> CompleteSandbox:
        """Create a sandbox."""
        ...

    async def get(self, tenant: str | None, identity: str) -> CompleteSandbox:
        """Return a living sandbox; every request to a sandbox comes by here."""
        ...

    async def list(self, tenant: str, labels: Mapping[str, str]) -> Sequence[SandboxInfo]:
        """Return the living sandboxes that have all these labels."""
        ...

    async def delete(self, tenant: str, identity: str) -> None:
        """Delete a sandbox."""
        ...

    async def extend(self, tenant: str, identity: str, ttl: float) -> None:
        """Let a sandbox live `ttl` seconds from now on."""
        ...

    async def fork(self, tenant: str, identity: str, count: int) -> Sequence[CompleteSandbox]:
        """Create sandboxes with the same files."""
        ...

    async def templates(self, tenant: str) -> Sequence[Template]:
        """Return the snapshots."""
        ...

    async def delete_template(self, tenant: str, identity: str) -> None:
        """Remove a snapshot."""
        ...


class BackendGate:
    """A gate over one backend, without quotas. The backend is started and closed by the caller."""

    def __init__(self, backend: ManagedBackend, api_keys: Mapping[str, str], *, secret: bytes | None = None) -> None:
        """Take API key → tenant; without `secret`, access tokens end with this object."""
        self._backend = backend
        self._api_keys = dict(api_keys)
        self._secret = secret or secrets.token_bytes(32)

    @property
    def secret(self) -> bytes:
        """Return the key that access tokens are derived from."""
        return self._secret

    async def authenticate(self, api_key: str) -> str | None:
        """Return the tenant that an API key belongs to; None for a wrong key."""
        tenant = None
        for known, owner in self._api_keys.items():  # all of them, so that the time taken tells nothing
            if hmac.compare_digest(known.encode(), api_key.encode()):
                tenant = owner
        return tenant

    async def create(self, tenant: str, spec: SandboxSpec) -> CompleteSandbox:
        """Create a sandbox that bears the tenant's label."""
        key = spec.idempotency_key
        labelled = replace(
            spec,
            labels={**spec.labels, TENANT_LABEL: tenant},
            idempotency_key=f"{tenant}/{key}" if key is not None else None,
        )
        return await self._backend.get((await self._backend.create(labelled)).id)

    async def get(self, tenant: str | None, identity: str) -> CompleteSandbox:
        """Return a living sandbox."""
        sandbox = await self._backend.get(identity)
        if tenant is not None and sandbox.spec.labels.get(TENANT_LABEL) != tenant:
            raise SandboxNotFound(f"there is no sandbox {identity}")
        return sandbox

    async def list(self, tenant: str, labels: Mapping[str, str]) -> Sequence[SandboxInfo]:
        """Return the living sandboxes that have all these labels."""
        return await self._backend.list(labels={**labels, TENANT_LABEL: tenant})

    async def delete(self, tenant: str, identity: str) -> None:
        """Delete a sandbox."""
        await (await self.get(tenant, identity)).delete()

    async def extend(self, tenant: str, identity: str, ttl: float) -> None:
        """Let a sandbox live `ttl` seconds from now on."""
        await (await self.get(tenant, identity)).extend(ttl)

    async def fork(self, tenant: str, identity: str, count: int) -> Sequence[CompleteSandbox]:
        """Create sandboxes with the same files."""
        copies = await (await self.get(tenant, identity)).fork(count)
        for copy in copies:
            if not isinstance(copy, CompleteSandbox):
                raise ContractError(f"{type(copy).__qualname__} is no CompleteSandbox: the front end cannot serve it")
        return [await self._backend.get(copy.id) for copy in copies]

    async def templates(self, tenant: str) -> Sequence[Template]:
        """Return the tenant's snapshots, known by the labels that they have of their sandboxes."""
        return [each for each in await self._backend.templates() if each.labels.get(TENANT_LABEL) == tenant]

    async def delete_template(self, tenant: str, identity: str) -> None:
        """Remove one of the tenant's snapshots."""
        if not any(each.id == identity for each in await self.templates(tenant)):
            raise SandboxNotFound(f"there is no template {identity}")
        await self._backend.delete_template(identity)
