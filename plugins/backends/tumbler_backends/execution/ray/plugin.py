"""Registers the execution backend `ray`."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import BackendSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.execution import ExecutionBackend


def _load() -> "type[ExecutionBackend]":
    from tumbler_backends.execution.ray.backend import RayExecution

    return RayExecution


def _config() -> "type[Settings]":
    from tumbler_backends.execution.ray.settings import RaySettings

    return RaySettings


@hookimpl
def tumbler_backends() -> list[BackendSpec]:
    """Provide execution on a Ray cluster."""
    return [
        BackendSpec(
            name="ray",
            summary="Rollouts, engines and the trainer as actors of a Ray cluster.",
            load=_load,
            config=_config,
            roles=("execution",),
            extra="ray",
        )
    ]
