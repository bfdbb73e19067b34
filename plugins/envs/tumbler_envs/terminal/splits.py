"""Decides to which split a task belongs; knows no task."""

from tumbler.errors import RunError
from tumbler.seeding import derive_seed

__all__ = ["SPLITS", "require_split", "split_of"]

SPLITS = ("train", "held-out")

_PARTS = 1 << 32


def require_split(split: str) -> None:
    """Raise `RunError` for a split that does not exist."""
    if split not in SPLITS:
        raise RunError(f"terminal has no split {split!r}; it has {' and '.join(SPLITS)}")


def split_of(key: str, *, held_out_share: float) -> str:
    """Return the split of what the key names: the same for ever, so that no seed moves it."""
    return SPLITS[derive_seed("terminal-split", key) % _PARTS < held_out_share * _PARTS]
