"""Read the weights that a run hands over, tied ones under each of their names."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ALIASES", "HEAD", "complete_tied_head", "read_weights"]

ALIASES = "aliases"
"""Key of the file's metadata: further names of a tensor → the name under which it is stored, as JSON."""

HEAD = "lm_head.weight"
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")


def read_weights(path: Path) -> dict[str, "Tensor"]:
    """Return the tensors of a safetensors file, or of all in a folder; they are views of the files."""
    from safetensors import safe_open

    weights: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    with ExitStack() as stack:
        for file in _files(path):
            opened = stack.enter_context(safe_open(file, framework="pt"))
            weights.update((name, opened.get_tensor(name)) for name in opened.keys())  # noqa: SIM118
            aliases.update(json.loads((opened.metadata() or {}).get(ALIASES, "{}")))
    weights.update((name, weights[stored]) for name, stored in aliases.items())
    return weights


def complete_tied_head(weights: Mapping[str, "Tensor"], *, tied: bool) -> dict[str, "Tensor"]:
    """Return the weights with the output head, which files of a model with tied embeddings leave out.

    Without it vLLM goes on with the old head: on processors it computes with a copy in a layout of its own.
    """
    complete = dict(weights)
    if not tied or HEAD in complete:
        return complete
    embeddings = [name for name in weights if name.endswith(_EMBEDDINGS)]
    if len(embeddings) != 1:
        raise ValueError(
            f"the model ties its output head to its embeddings, and {embeddings or 'no tensor'} could be these; "
            f"send {HEAD} too"
        )
    complete[HEAD] = weights[embeddings[0]]
    return complete


def _files(path: Path) -> Iterator[Path]:
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files:
        raise ValueError(f"{path} holds no safetensors")
    yield from files
