"""The Docker plugin's registration; knows names, not code."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import BackendSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.sandbox import SandboxBackend

__all__ = ["tumbler_backends"]


def _load() -> "type[SandboxBackend]":
    from tumbler_backends.sandbox.docker.backend import DockerBackend

    return DockerBackend


def _config() -> "type[Settings]":
    from tumbler_backends.sandbox.docker.settings import DockerSettings

    return DockerSettings


@hookimpl
def tumbler_backends() -> list[BackendSpec]:
    """Offer the backend under the name `docker`."""
    return [
        BackendSpec(
            name="docker",
            summary="Sandboxes as hardened containers of a Docker engine, with gVisor where it is installed.",
            roles=("sandbox",),
            load=_load,
            config=_config,
            extra="docker",
        )
    ]
