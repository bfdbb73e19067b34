"""The service's registration; knows names, not code."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import BackendSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.sandbox_service import SandboxService

__all__ = ["tumbler_backends"]


def _load() -> "type[SandboxService]":
    from tumbler_backends.sandbox.service.service import HttpService

    return HttpService


def _config() -> "type[Settings]":
    from tumbler_backends.sandbox.service.settings import ServiceSettings

    return ServiceSettings


@hookimpl
def tumbler_backends() -> list[BackendSpec]:
    """Offer the service under the name `sandbox-service`."""
    return [
        BackendSpec(
            name="sandbox-service",
            summary="Any sandbox backend behind HTTP, for several tenants, and for E2B's clients.",
            roles=("service",),
            load=_load,
            config=_config,
            extra="serve",
        )
    ]
