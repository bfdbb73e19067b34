"""The plugin of the `scripted` inference backend; imports nothing heavy."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import BackendSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.inference import InferenceBackend

__all__ = ["tumbler_backends"]


def _load() -> "type[InferenceBackend]":
    from tumbler_backends.inference.scripted.script import ScriptedInference

    return ScriptedInference


def _config() -> "type[Settings]":
    from tumbler_backends.inference.scripted.settings import ScriptedSettings

    return ScriptedSettings


@hookimpl
def tumbler_backends() -> list[BackendSpec]:
    """Provide the backend."""
    return [
        BackendSpec(
            name="scripted",
            summary="Replies by rules, without a model: for trying environments, agents and verifiers.",
            roles=("inference",),
            load=_load,
            config=_config,
            extra="train",
        )
    ]
