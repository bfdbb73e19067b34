"""Registers the execution backend `local`."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import BackendSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.execution import ExecutionBackend


def _load() -> "type[ExecutionBackend]":
    from tumbler_backends.execution.local.backend import LocalExecution

    return LocalExecution


def _config() -> "type[Settings]":
    from tumbler_backends.execution.local.settings import LocalSettings

    return LocalSettings


@hookimpl
def tumbler_backends() -> list[BackendSpec]:
    """Provide execution on this machine."""
    return [
        BackendSpec(
            name="local",
            summary="Rollouts in this process, concurrent in asyncio, or in worker processes of its own.",
            load=_load,
            config=_config,
            roles=("execution",),
        )
    ]
