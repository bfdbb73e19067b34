"""Model folders and checkpoint folders of the training backends: read, and written whole or not at all.

Knows no trainer: each backend adds what it does with the model, and what its state holds.
"""

import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from tumbler.errors import RunError, RunFolderError

__all__ = ["copy_weights", "enable_checkpointing", "load_model", "quiet", "read_state", "write_checkpoint"]

ALIGNMENT = 64
"""Bytes; PyTorch allocates at multiples of it."""
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


def load_model(folder: Path, *, dtype: str, dropout: bool) -> PreTrainedModel:
    """Load a model folder in Hugging Face format; raise `RunError` if there is none.

    Args:
        folder: where it lies.
        dtype: name of the type of the weights.
        dropout: whether to leave it on; without it, training mode computes what the policy samples by.
    """
    if not (folder / "config.json").is_file():
        raise RunError(
            f"no model to train in {folder}: expected a folder in Hugging Face format with config.json, "
            "weights and tokenizer files"
        )
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    if not dropout:
        _switch_dropout_off(config)
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(
            folder, config=config, dtype=getattr(torch, dtype), local_files_only=True
        )
    _align(model)
    return cast("PreTrainedModel", model)


def enable_checkpointing(model: PreTrainedModel) -> None:
    """Have activations computed again in the backward pass, in training mode."""
    # transformers 5 renamed the method within the major version.
    renamed = getattr(model, "activation_checkpointing_enable", None)
    enable = renamed or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def copy_weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return a copy of all weights by their Hugging Face names.

    Tied weights appear under each of their names, as one tensor.
    """
    copies: dict[int, Tensor] = {}
    weights: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in copies:
            copies[tensor.data_ptr()] = tensor.detach().clone()
        weights[name] = copies[tensor.data_ptr()]
    return weights


def write_checkpoint(
    folder: Path, *, save: Callable[[Path], object], tokenizer: Path, state: Mapping[str, Any]
) -> None:
    """Write `model/` in Hugging Face format and `state.pt`, then move the whole folder into place.

    Raise `RunError` if there is no room, or it cannot be written for another reason; then an older checkpoint
    is still there.

    Args:
        folder: the checkpoint's place; an older checkpoint there is replaced.
        save: writes weights and configuration into the folder that it is given.
        tokenizer: the model folder whose tokenizer files are copied.
        state: what `read_state` returns; tensors and plain values only.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(folder, "partial")
    try:
        _recover(folder)
        _write(partial, save=save, tokenizer=tokenizer, state=state)
        if folder.exists():
            folder.rename(_beside(folder, "replaced"))
        partial.rename(folder)
    # PyTorch tells of a disk that is full by a plain RuntimeError, safetensors by an error of its own.
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        _recover(folder)
        kept = "the older one in its place is whole" if folder.exists() else "there is none"
        free = shutil.disk_usage(folder.parent).free
        raise RunError(
            f"the checkpoint {folder} could not be written, and {kept}: {error} ({free >> 20} MiB are free there; make "
            "room, or let the run keep its checkpoints elsewhere)"
        ) from error
    shutil.rmtree(_beside(folder, "replaced"), ignore_errors=True)


def read_state(folder: Path, *, device: torch.device) -> dict[str, Any]:
    """Return the state that `write_checkpoint` wrote, its tensors on `device`.

    Raise `RunFolderError` if it is missing or damaged; whose it is, and in what format, is the caller's to check.
    """
    _recover(folder)
    file = folder / "state.pt"
    if not file.is_file():
        raise RunFolderError(f"no training checkpoint in {folder}: expected model/ and state.pt")
    try:
        return cast("dict[str, Any]", torch.load(file, map_location=device, weights_only=True))
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise RunFolderError(f"the training checkpoint {file} is damaged; go back to an older one: {error}") from error


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


def _switch_dropout_off(config: PreTrainedConfig) -> None:
    for name, value in config.to_dict().items():
        if isinstance(value, float) and ("dropout" in name or "pdrop" in name or "layerdrop" in name):
            setattr(config, name, 0.0)


def _align(model: PreTrainedModel) -> None:
    """Copy the weights that lie at odd addresses.

    A tensor that is mapped from a file without conversion begins wherever the file has it. Matrix
    products of equal weights then differ in the last bit with the address, so that a run would not go
    on exactly from its checkpoint.
    """
    for parameter in model.parameters():
        if parameter.data_ptr() % ALIGNMENT:
            parameter.data = parameter.data.clone()


def _write(folder: Path, *, save: Callable[[Path], object], tokenizer: Path, state: Mapping[str, Any]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with quiet():
        save(folder / "model")
    for pattern in TOKENIZER_FILES:
        for file in filter(Path.is_file, tokenizer.glob(pattern)):
            shutil.copy2(file, folder / "model" / file.name)
    torch.save(dict(state), folder / "state.pt")
    for file in filter(Path.is_file, folder.rglob("*")):
        _flush(file)


def _beside(folder: Path, what: str) -> Path:
    return folder.with_name(f".{folder.name}.{what}")


def _recover(folder: Path) -> None:
    """Put a checkpoint back that was moved away for one that then did not come."""
    replaced = _beside(folder, "replaced")
    if not replaced.exists():
        return
    if folder.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        return
    # Processes that read the same checkpoint may all come here; one of them is first.
    with suppress(FileNotFoundError):
        replaced.rename(folder)


def _flush(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
