"""Shares of the budget in settings: a number, or a range to draw from at the start of an episode; knows no strategy."""

from random import Random
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, Field

__all__ = ["Share", "ShareOrRange", "draw_share"]

Share: TypeAlias = Annotated[float, Field(gt=0, le=1)]


def _ordered(share: float | tuple[float, float]) -> float | tuple[float, float]:
    if isinstance(share, tuple) and share[0] > share[1]:
        raise ValueError(f"the range {list(share)} has its greater end first; write [{share[1]}, {share[0]}]")
    return share


ShareOrRange: TypeAlias = Annotated[Share | tuple[Share, Share], AfterValidator(_ordered)]
"""0.8, or [0.6, 0.9]: then each episode has a share of its own, equal within a group of rollouts."""


def draw_share(share: float | tuple[float, float], rng: Random) -> float:
    """Return the share, drawn from `rng` where a range is given."""
    return rng.uniform(*share) if isinstance(share, tuple) else share
