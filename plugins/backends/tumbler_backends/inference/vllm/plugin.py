"""The plugin of the `vllm` inference backend; imports nothing heavy."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import BackendSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.inference import InferenceBackend

__all__ = ["tumbler_backends"]


def _load() -> "type[InferenceBackend]":
    from tumbler_backends.inference.vllm.backend import VllmInference

    return VllmInference


def _config() -> "type[Settings]":
    from tumbler_backends.inference.vllm.settings import VllmSettings

    return VllmSettings


@hookimpl
def tumbler_backends() -> list[BackendSpec]:
    """Provide the backend."""
    return [
        BackendSpec(
            name="vllm",
            summary="Serves the policy with vLLM, in processes and a Python environment of its own.",
            roles=("inference",),
            load=_load,
            config=_config,
            extra="train",
        )
    ]
