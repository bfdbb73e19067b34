"""Model folders and checkpoint folders: read, and written whole or not at all; knows no trainer."""

import os
import pickle
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from tumbler.errors import RunError, RunFolderError
from tumbler_backends.training.trl.settings import TRLTrainingSettings

__all__ = ["Policy", "load_policy", "quiet", "read_state", "write_checkpoint"]

FORMAT = 1
TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "vocab*",
    "merges.txt",
    "*.tiktoken",
    "*.model",
)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A model in training, its tokenizer for TRL, and the configurations of the folder that it came from.

    TRL writes its padding and its choice of cache into the model's own configurations, and dropout is switched
    off there; checkpoints get the ones that are kept here.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    config: PreTrainedConfig
    generation: GenerationConfig | None

    def release(self) -> None:
        """Take TRL's output head and Accelerate's mixed precision off the model, for the next trainer to put on."""
        for name in ("forward", "_original_forward"):
            vars(self.model).pop(name, None)

    def copy_weights(self) -> dict[str, torch.Tensor]:
        """Return a copy of all weights by their Hugging Face names.

        Tied weights appear under each of their names, as one tensor.
        """
        copies: dict[int, torch.Tensor] = {}
        weights: dict[str, torch.Tensor] = {}
        for name, tensor in self.model.state_dict().items():
            if tensor.data_ptr() not in copies:
                copies[tensor.data_ptr()] = tensor.detach().clone()
            weights[name] = copies[tensor.data_ptr()]
        return weights


def load_policy(folder: Path, settings: TRLTrainingSettings) -> Policy:
    """Load a model folder in Hugging Face format; raise `RunError` if there is none, or no tokenizer in it."""
    if not (folder / "config.json").is_file():
        raise RunError(
            f"no model to train in {folder}: expected a folder in Hugging Face format with config.json, "
            "weights and tokenizer files"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise RunError(f"no tokenizer that can be read in {folder}; TRL's trainers need one: {error}") from error
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    original = deepcopy(config)
    _switch_dropout_off(config)
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(
            folder, config=config, dtype=getattr(torch, settings.dtype), local_files_only=True
        )
    if settings.gradient_checkpointing:
        # transformers 5 renamed the method within the major version.
        renamed = getattr(model, "activation_checkpointing_enable", None)
        enable = renamed or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    original.architectures, original.dtype = [type(model).__name__], model.dtype
    return Policy(model=model, tokenizer=tokenizer, config=original, generation=deepcopy(model.generation_config))


def write_checkpoint(folder: Path, policy: Policy, *, tokenizer: Path, state: Mapping[str, Any]) -> None:
    """Write `model/` in Hugging Face format and `state.pt`, then move the whole folder into place.

    Args:
        folder: the checkpoint's place; an older checkpoint there is replaced.
        policy: the weights.
        tokenizer: the model folder whose tokenizer files are copied; TRL changes the loaded one.
        state: what `read_state` returns; tensors and plain values only.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial")
    replaced = folder.with_name(f".{folder.name}.replaced")
    for leftover in (partial, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    with quiet():
        policy.model.save_pretrained(partial / "model")
    policy.config.save_pretrained(partial / "model")
    if policy.generation is not None:
        policy.generation.save_pretrained(partial / "model")
    for pattern in TOKENIZER_FILES:
        for file in filter(Path.is_file, tokenizer.glob(pattern)):
            shutil.copy2(file, partial / "model" / file.name)
    torch.save({"format": FORMAT, **state}, partial / "state.pt")
    for file in filter(Path.is_file, partial.rglob("*")):
        _flush(file)
    if folder.exists():
        folder.rename(replaced)
    partial.rename(folder)
    shutil.rmtree(replaced, ignore_errors=True)


def read_state(folder: Path) -> dict[str, Any]:
    """Return the state that `write_checkpoint` wrote; raise `RunFolderError` if it is missing, damaged or foreign."""
    file = folder / "state.pt"
    if not file.is_file():
        raise RunFolderError(f"no training checkpoint in {folder}: expected model/ and state.pt")
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise RunFolderError(f"the training checkpoint {file} is damaged; go back to an older one: {error}") from error
    if state.get("format") != FORMAT or "phase" not in state:
        raise RunFolderError(f"{file} is no checkpoint of the training backend trl in format {FORMAT}")
    return cast("dict[str, Any]", state)


def _switch_dropout_off(config: PreTrainedConfig) -> None:
    """Make log-probabilities in training those of the policy that samples."""
    for name, value in config.to_dict().items():
        if isinstance(value, float) and ("dropout" in name or "pdrop" in name or "layerdrop" in name):
            setattr(config, name, 0.0)


@contextmanager
def quiet() -> Iterator[None]:
    """Hide the progress bars of loading and saving: a run has a progress display of its own."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _flush(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
