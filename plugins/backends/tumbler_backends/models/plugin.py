"""The plugin of the first-party model sources; imports nothing heavy."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import ModelSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.model import ModelSource

__all__ = ["tumbler_models"]


def _tiny() -> "type[ModelSource]":
    from tumbler_backends.models.tiny import TinyModel

    return TinyModel


def _tiny_settings() -> "type[Settings]":
    from tumbler_backends.models.settings import TinySettings

    return TinySettings


def _folder() -> "type[ModelSource]":
    from tumbler_backends.models.folder import FolderModel

    return FolderModel


def _folder_settings() -> "type[Settings]":
    from tumbler_backends.models.settings import FolderSettings

    return FolderSettings


def _gguf() -> "type[ModelSource]":
    from tumbler_backends.models.gguf import GgufModel

    return GgufModel


def _gguf_settings() -> "type[Settings]":
    from tumbler_backends.models.settings import GgufSettings

    return GgufSettings


@hookimpl
def tumbler_models() -> list[ModelSpec]:
    """Provide the model sources."""
    return [
        ModelSpec(
            name="tiny",
            summary="A small new model and a tokenizer made for the run's own texts.",
            load=_tiny,
            config=_tiny_settings,
            extra="train",
        ),
        ModelSpec(
            name="folder",
            summary="A model in Hugging Face format: a folder, or a name on the hub.",
            load=_folder,
            config=_folder_settings,
            extra="train",
        ),
        ModelSpec(
            name="gguf",
            summary="A pretrained model in a GGUF file, by path or inside an installed package.",
            load=_gguf,
            config=_gguf_settings,
            extra="gguf",
        ),
    ]
