"""The settings of the `replay` inference backend."""

from pathlib import Path

from tumbler.config import Settings

__all__ = ["ReplaySettings"]


class ReplaySettings(Settings):
    """Where the recorded trajectories are."""

    trajectories: tuple[Path, ...]
    """Files of trajectories, as `stages/*/trajectories.jsonl` of a run folder, or whole run folders."""
