"""What arms A and C brought, as files, so that tables and plots can be written again without playing."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from experiments.context.cuts import Cut
from experiments.context.measures import Measured

from tumbler.errors import RunError

__all__ = ["load_played", "save_played"]

_EPISODES: Final = "episodes.json"
_CUTS: Final = "cuts.json"


def save_played(out: Path, measured: Sequence[Measured], cuts: Sequence[Cut]) -> None:
    """Write what was measured into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    (out / _EPISODES).write_text(json.dumps([asdict(each) for each in measured]), encoding="utf-8")
    (out / _CUTS).write_text(json.dumps([asdict(each) for each in cuts]), encoding="utf-8")


def load_played(out: Path) -> tuple[list[Measured], list[Cut]]:
    """Return what `save_played` wrote; raise `RunError` where nothing is."""
    try:
        episodes, cuts = (json.loads((out / name).read_text(encoding="utf-8")) for name in (_EPISODES, _CUTS))
    except FileNotFoundError as error:
        raise RunError(f"{error.filename} is not there: run python -m experiments.context first") from error
    measured = [Measured(**{**each, "unshown": tuple(each["unshown"])}) for each in episodes]
    return measured, [Cut(**each) for each in cuts]
