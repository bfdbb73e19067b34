"""The plugin of the `replay` inference backend; imports nothing heavy."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import BackendSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.inference import InferenceBackend

__all__ = ["tumbler_backends"]


def _load() -> "type[InferenceBackend]":
    from tumbler_backends.inference.replay.records import ReplayInference

    return ReplayInference


def _config() -> "type[Settings]":
    from tumbler_backends.inference.replay.settings import ReplaySettings

    return ReplaySettings


@hookimpl
def tumbler_backends() -> list[BackendSpec]:
    """Provide the backend."""
    return [
        BackendSpec(
            name="replay",
            summary="Says again what a run's trajectories recorded, without a model.",
            roles=("inference",),
            load=_load,
            config=_config,
            extra="train",
        )
    ]
