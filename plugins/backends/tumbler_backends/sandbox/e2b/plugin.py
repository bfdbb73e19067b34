"""The E2B plugin's registration; knows names, not code."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import BackendSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.sandbox import SandboxBackend

__all__ = ["tumbler_backends"]


def _load() -> "type[SandboxBackend]":
    from tumbler_backends.sandbox.e2b.backend import E2bBackend

    return E2bBackend


def _config() -> "type[Settings]":
    from tumbler_backends.sandbox.e2b.settings import E2bSettings

    return E2bSettings


@hookimpl
def tumbler_backends() -> list[BackendSpec]:
    """Offer the backend under the name `e2b`."""
    return [
        BackendSpec(
            name="e2b",
            summary="Sandboxes of E2B's cloud, or of any server that speaks its protocol.",
            roles=("sandbox",),
            load=_load,
            config=_config,
            extra="e2b",
        )
    ]
