"""Notices an agent that goes in circles: the same calls with the same results, over and over."""

import hashlib
import json
from collections.abc import Sequence
from typing import Final

from tumbler.contracts.chat import ChatCall

__all__ = ["LoopGuard"]

_LONGEST: Final = 3
"""Turns of the longest circle that is looked for."""


class LoopGuard:
    """Remembers digests of the latest turns. A circle is one turn, or up to three that take turns."""

    def __init__(self, remind_after: int, stop_after: int) -> None:
        """Remind after so many rounds and stop after so many; 0 never does."""
        self._remind_after = remind_after
        self._stop_after = stop_after
        self._turns: list[str] = []
        self.reminds = False
        """Whether this is the moment to say so: once for each circle."""

    def note(self, calls: Sequence[ChatCall], results: Sequence[str]) -> None:
        """Take in one turn."""
        circling = self._circling()
        said = [[call.name, dict(call.arguments), call.problem] for call in calls]
        turn = json.dumps([said, list(results)], sort_keys=True, ensure_ascii=True)
        self._turns.append(hashlib.blake2b(turn.encode(), digest_size=16).hexdigest())
        del self._turns[: -_LONGEST * max(self._remind_after, self._stop_after, 1)]
        self.reminds = self._circling() and not circling

    def forget(self) -> None:
        """Start afresh, since the person has spoken."""
        self._turns.clear()
        self.reminds = False

    @property
    def stops(self) -> bool:
        """Tell whether it is hopeless."""
        return self._stop_after > 0 and self._rounds() >= self._stop_after

    def _circling(self) -> bool:
        return self._remind_after > 0 and self._rounds() >= self._remind_after

    def _rounds(self) -> int:
        """Return how often the latest circle has been gone through; 1 where there is none."""
        return max((self._repeats(period) for period in range(1, _LONGEST + 1)), default=1)

    def _repeats(self, period: int) -> int:
        latest = self._turns[-period:]
        count, end = 0, len(self._turns)
        while end >= period and self._turns[end - period : end] == latest:
            count, end = count + 1, end - period
        return count
