"""The process plugin's registration; knows names, not code."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import BackendSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.sandbox import SandboxBackend

__all__ = ["tumbler_backends"]


def _load() -> "type[SandboxBackend]":
    from tumbler_backends.sandbox.process.backend import ProcessBackend

    return ProcessBackend


def _config() -> "type[Settings]":
    from tumbler_backends.sandbox.process.settings import ProcessSettings

    return ProcessSettings


@hookimpl
def tumbler_backends() -> list[BackendSpec]:
    """Offer the backend under the name `process`."""
    return [
        BackendSpec(
            name="process",
            summary="No isolation: plain processes of this user in private folders, for trusted commands alone.",
            roles=("sandbox",),
            load=_load,
            config=_config,
        )
    ]
