"""Lets the E2B front end at the holdings, with the same tenants and quotas as the native API."""

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence

from tumbler.contracts.sandbox import SandboxSpec
from tumbler.contracts.sandbox_control import CompleteSandbox, SandboxInfo, Template
from tumbler_backends.sandbox.service.holdings import Holdings
from tumbler_backends.sandbox.service.settings import ServiceSettings
from tumbler_backends.sandbox.service.tenants import Tenant, Tenants, Unauthorized

__all__ = ["TenantGate"]


class TenantGate:
    """The front end's gate; see the protocol `Gate` of the package `e2b` for what each method promises."""

    def __init__(self, settings: ServiceSettings, tenants: Tenants, holdings: Holdings) -> None:
        """Serve these tenants."""
        self._tenants = tenants
        self._holdings = holdings
        self._secret = _secret(settings)

    @property
    def secret(self) -> bytes:
        """Return the key that access tokens are derived from."""
        return self._secret

    async def authenticate(self, api_key: str) -> str | None:
        """Return the tenant that an API key, which is a token of the service, belongs to."""
        try:
            return self._tenants.of(api_key).name
        except Unauthorized:
            return None

    async def create(self, tenant: str, spec: SandboxSpec) -> CompleteSandbox:
        """Create a sandbox within the tenant's quota."""
        return (await self._holdings.create(spec, self._tenant(tenant))).sandbox

    async def get(self, tenant: str | None, identity: str) -> CompleteSandbox:
        """Return a living sandbox; with None, whoever's it is."""
        held = await self._holdings.get(identity, None if tenant is None else self._tenant(tenant))
        return held.sandbox

    async def list(self, tenant: str, labels: Mapping[str, str]) -> Sequence[SandboxInfo]:
        """Return the living sandboxes that have all these labels."""
        return await self._holdings.list(self._tenant(tenant), labels)

    async def delete(self, tenant: str, identity: str) -> None:
        """Delete a sandbox."""
        await self._holdings.delete(await self._holdings.get(identity, self._tenant(tenant)))

    async def extend(self, tenant: str, identity: str, ttl: float) -> None:
        """Let a sandbox live `ttl` seconds from now on."""
        caller = self._tenant(tenant)
        held = await self._holdings.get(identity, caller)
        caller.require_ttl(ttl)
        await held.sandbox.extend(ttl)

    async def fork(self, tenant: str, identity: str, count: int) -> Sequence[CompleteSandbox]:
        """Create sandboxes with the same files."""
        caller = self._tenant(tenant)
        copies = await self._holdings.fork(await self._holdings.get(identity, caller), count, caller)
        return [copy.sandbox for copy in copies]

    async def templates(self, tenant: str) -> Sequence[Template]:
        """Return the tenant's snapshots."""
        return await self._holdings.templates(self._tenant(tenant))

    async def delete_template(self, tenant: str, identity: str) -> None:
        """Remove one of the tenant's snapshots."""
        await self._holdings.delete_template(identity, self._tenant(tenant))

    def _tenant(self, name: str) -> Tenant:
        return self._tenants.named(name)


def _secret(settings: ServiceSettings) -> bytes:
    if settings.secret is not None:
        return settings.secret.get_secret_value().encode()
    if not settings.tenants:
        return secrets.token_bytes(32)
    tokens = "\0".join(sorted(each.token.get_secret_value() for each in settings.tenants))
    return hmac.new(tokens.encode(), b"access tokens of sandboxes", hashlib.sha256).digest()
