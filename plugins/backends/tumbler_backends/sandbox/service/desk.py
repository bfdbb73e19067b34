"""What every request has at hand: who calls, and the sandbox that the path names."""

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

from fastapi import Depends, Path, Request

from tumbler.contracts.sandbox import SandboxCapabilities
from tumbler.errors import SandboxUnavailable
from tumbler_backends.sandbox.service.holdings import Held, Holdings
from tumbler_backends.sandbox.service.settings import ServiceSettings
from tumbler_backends.sandbox.service.tenants import Tenant, Tenants

if TYPE_CHECKING:
    from tumbler_backends.sandbox.service.gem import OpenEnvironments

__all__ = ["INSTANCE_HEADER", "Box", "Call", "Caller", "Desk", "Restarted"]

INSTANCE_HEADER: Final = "Tumbler-Instance"


class Restarted(SandboxUnavailable):
    """The service is another one than the client spoke to before."""


@dataclass(frozen=True, kw_only=True)
class Desk:
    """One running service."""

    settings: ServiceSettings
    tenants: Tenants
    holdings: Holdings
    capabilities: SandboxCapabilities
    environments: "OpenEnvironments"
    instance: str = field(default_factory=lambda: secrets.token_hex(8))
    """Another one after each start."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request's caller."""

    tenant: Tenant
    desk: Desk


def call_of(request: Request) -> Call:
    """Find out who calls; a request that repeats an earlier one is refused where the service was restarted since."""
    desk: Desk = request.app.state.desk
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    tenant = desk.tenants.of(token.strip() if scheme.lower() == "bearer" else None)
    expected = request.headers.get(INSTANCE_HEADER)
    if expected is not None and expected != desk.instance:
        raise Restarted(
            "the service was restarted while the request was under way; whether the command ran is not known"
        )
    return Call(tenant=tenant, desk=desk)


Caller: TypeAlias = Annotated[Call, Depends(call_of)]


async def box_of(sandbox: Annotated[str, Path(description="The sandbox's id or name.")], caller: Caller) -> Held:
    """Return the caller's sandbox."""
    return await caller.desk.holdings.get(sandbox, caller.tenant)


Box: TypeAlias = Annotated[Held, Depends(box_of)]
