"""The plugin of the `transformers` inference backend; imports nothing heavy."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import BackendSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.inference import InferenceBackend

__all__ = ["tumbler_backends"]


def _load() -> "type[InferenceBackend]":
    from tumbler_backends.inference.transformers.backend import TransformersInference

    return TransformersInference


def _config() -> "type[Settings]":
    from tumbler_backends.inference.transformers.settings import TransformersSettings

    return TransformersSettings


@hookimpl
def tumbler_backends() -> list[BackendSpec]:
    """Provide the backend."""
    return [
        BackendSpec(
            name="transformers",
            summary="Serves any Hugging Face causal model in this process, batched token by token.",
            roles=("inference",),
            load=_load,
            config=_config,
            extra="train",
            default=True,
        )
    ]
