"""Paths into plain JSON, as messages write them."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

__all__ = ["Path", "dotted", "value_at"]

Path: TypeAlias = tuple[str | int, ...]
"""Keys from the top of a document down to a value; integers are positions in a list."""


def dotted(path: Path) -> str:
    """Return the path as it is written in messages: `runs.smoke.eval.envs[0]`."""
    text = ""
    for item in path:
        if isinstance(item, int):
            text += f"[{item}]"
        else:
            text += f"{'.' if text else ''}{item}"
    return text


def value_at(document: object, path: Path) -> object:
    """Return the value at the path; None if nothing is there, which TOML cannot write otherwise."""
    value = document
    for key in path:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, Sequence) and not isinstance(value, str) and isinstance(key, int) and key < len(value):
            value = value[key]
        else:
            return None
    return value
