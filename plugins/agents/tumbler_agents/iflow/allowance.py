"""How many model calls and how much time are left, for an agent and for all its sub-agents together."""

import time
from collections.abc import Callable
from typing import Literal, TypeAlias

__all__ = ["Allowance", "Strike"]

Strike: TypeAlias = Literal["turn_limit", "time_limit"]


class Allowance:
    """Counts model calls; those of a share are taken from the whole, too."""

    def __init__(
        self,
        turns: int,
        seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        whole: "Allowance | None" = None,
    ) -> None:
        """Start the clock."""
        self._clock = clock
        self._ends = clock() + seconds
        self._seconds = seconds
        self._whole = whole
        self._left = turns

    @property
    def turns_left(self) -> int:
        """Return how many model calls are left."""
        return self._left if self._whole is None else min(self._left, self._whole.turns_left)

    def strike(self) -> Strike | None:
        """Return the limit that has been reached, if any."""
        if self.turns_left <= 0:
            return "turn_limit"
        if self._clock() >= self._ends:
            return "time_limit"
        return None if self._whole is None else self._whole.strike()

    def take(self) -> None:
        """Use up one model call."""
        self._left -= 1
        if self._whole is not None:
            self._whole.take()

    def share(self, turns: int) -> "Allowance":
        """Return at most so many of the calls that are left, with no more time than there is."""
        return Allowance(turns, self._seconds, clock=self._clock, whole=self)
