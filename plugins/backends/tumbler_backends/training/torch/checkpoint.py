"""The checkpoints of this backend; knows no optimizer."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from tumbler.errors import RunFolderError
from tumbler_backends.training import folders

__all__ = ["read_state", "write_checkpoint"]

FORMAT = 2


def write_checkpoint(
    folder: Path, *, save: Callable[[Path], object], tokenizer: Path, state: Mapping[str, Any]
) -> None:
    """Write model, tokenizer files and state, whole or not at all; see `folders.write_checkpoint`."""
    folders.write_checkpoint(folder, save=save, tokenizer=tokenizer, state={"format": FORMAT, **state})


def read_state(folder: Path, *, device: torch.device) -> dict[str, Any]:
    """Return the state that `write_checkpoint` wrote, its tensors on `device`.

    Raise `RunFolderError` if it is missing, damaged or of another format.
    """
    state = folders.read_state(folder, device=device)
    if state.get("format") != FORMAT:
        found = state.get("format")
        raise RunFolderError(f"{folder / 'state.pt'} has format {found!r}; this version of Tumbler reads {FORMAT}")
    return state
