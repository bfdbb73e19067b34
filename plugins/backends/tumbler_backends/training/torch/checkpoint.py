"""Checkpoint folders: written whole or not at all; knows no optimizer."""

import os
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedModel

from tumbler.errors import RunFolderError
from tumbler_backends.training.torch.policy import quiet

__all__ = ["read_state", "write_checkpoint"]

FORMAT = 2
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


def write_checkpoint(folder: Path, *, model: PreTrainedModel, tokenizer: Path, state: Mapping[str, Any]) -> None:
    """Write `model/` in Hugging Face format and `state.pt`, then move the whole folder into place.

    Args:
        folder: the checkpoint's place; an older checkpoint there is replaced.
        model: the weights.
        tokenizer: the model folder whose tokenizer files are copied.
        state: what `read_state` returns; tensors and plain values only.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial")
    replaced = folder.with_name(f".{folder.name}.replaced")
    for leftover in (partial, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    with quiet():
        model.save_pretrained(partial / "model")
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


def read_state(folder: Path, *, device: torch.device) -> dict[str, Any]:
    """Return the state that `write_checkpoint` wrote, its tensors on `device`.

    Raise `RunFolderError` if it is missing, damaged or of another format.
    """
    file = folder / "state.pt"
    if not file.is_file():
        raise RunFolderError(f"no training checkpoint in {folder}: expected model/ and state.pt")
    try:
        state = torch.load(file, map_location=device, weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise RunFolderError(f"the training checkpoint {file} is damaged; go back to an older one: {error}") from error
    if state.get("format") != FORMAT:
        raise RunFolderError(f"{file} has format {state.get('format')!r}; this version of Tumbler reads {FORMAT}")
    return cast("dict[str, Any]", state)


def _flush(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
