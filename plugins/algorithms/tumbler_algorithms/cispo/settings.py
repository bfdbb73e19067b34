"""Settings of CISPO."""

from pydantic import Field, NonNegativeFloat

from tumbler_algorithms.parts.objective import ObjectiveSettings

__all__ = ["CISPOSettings"]


class CISPOSettings(ObjectiveSettings):
    """How CISPO samples, credits and updates."""

    group_size: int = Field(default=8, ge=2)
    """Rollouts of each task, compared with each other."""

    divide_by_std: bool = True
    """Whether the advantage is divided by the standard deviation of the group's rewards."""

    clip_low: float | None = Field(default=None, ge=0.0, le=1.0)
    """How far below 1 a token's weight may fall; None sets no lower bound, as the paper does."""

    clip_high: NonNegativeFloat = 4.0
    """How far above 1 a token's weight may rise."""
