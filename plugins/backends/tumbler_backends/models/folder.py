"""The model source `folder`: a model that exists already, in a folder or on the Hugging Face hub."""

import json
from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from tumbler.errors import RunError
from tumbler_backends.models.settings import FolderSettings

__all__ = ["FolderModel"]

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
_TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja")


class FolderModel:
    """Finds a model folder and checks that it is complete."""

    def __init__(self, settings: FolderSettings) -> None:
        """Take the folder's path, or the model's name on the hub."""
        self._settings = settings

    def prepare(self, folder: Path, *, texts: Iterable[str], seed: int) -> Path:
        """Return the existing folder, or the one that was downloaded; `folder` stays empty."""
        path = Path(self._settings.path).expanduser()
        found = path if path.is_dir() else self._download()
        missing = _missing(found)
        if missing:
            listing = "\n".join(f"  - {each}" for each in missing)
            raise RunError(f"the model folder {found} is not complete; it lacks\n{listing}")
        return found

    def _download(self) -> Path:
        name = self._settings.path
        try:
            return Path(snapshot_download(name, revision=self._settings.revision))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
            raise RunError(
                f"there is no folder {name!r}, and it cannot be downloaded from the Hugging Face hub: {error}\n"
                "give the path of a folder with config.json, weights and tokenizer, or a name such as Qwen/Qwen3-0.6B"
            ) from error


def _missing(folder: Path) -> list[str]:
    """Return what a model folder needs and this one lacks, each with a word on how to mend it."""
    missing = []
    if not (folder / "config.json").is_file():
        missing.append("config.json: the model's configuration, as `save_pretrained` writes it")
    if not _has(folder, _WEIGHTS):
        missing.append("weights: model.safetensors, or its parts")
    if not _has(folder, _TOKENIZERS):
        missing.append("a tokenizer: tokenizer.json, as the tokenizer's `save_pretrained` writes it")
    if not _has(folder, _TEMPLATES) and not _template_in_config(folder / "tokenizer_config.json"):
        missing.append("a chat template: chat_template.jinja; instruction-tuned variants of a model have one")
    return missing


def _has(folder: Path, patterns: Iterable[str]) -> bool:
    return any(True for pattern in patterns for _ in folder.glob(pattern))


def _template_in_config(path: Path) -> bool:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and bool(config.get("chat_template"))
