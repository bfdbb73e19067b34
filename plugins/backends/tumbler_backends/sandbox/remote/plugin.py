"""The remote backend's registration; knows names, not code."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import BackendSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.sandbox import SandboxBackend

__all__ = ["tumbler_backends"]


def _load() -> "type[SandboxBackend]":
    from tumbler_backends.sandbox.remote.backend import RemoteBackend

    return RemoteBackend


def _config() -> "type[Settings]":
    from tumbler_backends.sandbox.remote.settings import RemoteSettings

    return RemoteSettings


@hookimpl
def tumbler_backends() -> list[BackendSpec]:
    """Offer the backend under the name `remote`."""
    return [
        BackendSpec(
            name="remote",
            summary="Sandboxes of a Tumbler sandbox service on this or another machine.",
            roles=("sandbox",),
            load=_load,
            config=_config,
            extra="remote",
        )
    ]
