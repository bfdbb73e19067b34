"""The bubblewrap plugin's registration; knows names, not code."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import BackendSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.sandbox import SandboxBackend

__all__ = ["tumbler_backends"]


def _load() -> "type[SandboxBackend]":
    from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend

    return BubblewrapBackend


def _config() -> "type[Settings]":
    from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings

    return BubblewrapSettings


@hookimpl
def tumbler_backends() -> list[BackendSpec]:
    """Offer the backend under the name `bubblewrap`."""
    return [
        BackendSpec(
            name="bubblewrap",
            summary="Sandboxes from Linux namespaces, seccomp and cgroups, a few milliseconds each.",
            roles=("sandbox",),
            load=_load,
            config=_config,
            default=True,
        )
    ]
