"""The modal plugin's registration; knows names, not code."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import BackendSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.sandbox import SandboxBackend

__all__ = ["tumbler_backends"]


def _load() -> "type[SandboxBackend]":
    from tumbler_backends.sandbox.modal.backend import ModalBackend

    return ModalBackend


def _config() -> "type[Settings]":
    from tumbler_backends.sandbox.modal.settings import ModalSettings

    return ModalSettings


@hookimpl
def tumbler_backends() -> list[BackendSpec]:
    """Offer the backend under the name `modal`."""
    return [
        BackendSpec(
            name="modal",
            summary="Sandboxes on Modal: containers under gVisor, billed by the second.",
            roles=("sandbox",),
            extra="modal",
            load=_load,
            config=_config,
        )
    ]
