"""Shares out a step's replacements among its groups in an order that does not depend on which finishes first."""

import asyncio

__all__ = ["ReplacementBudget"]


class ReplacementBudget:
    """Grants up to so many replacements, those of the first turn before those of the second, by place within a turn.

    Which ones are granted follows from which groups are refused, and from nothing else: a step that is
    taken again replaces the same groups. A request is answered as soon as it is certain, at once while
    the budget suffices whatever becomes of the groups that are still running.
    """

    def __init__(self, *, places: int, budget: int) -> None:
        """Grant `budget` replacements to `places` planned groups."""
        self._budget = budget
        self._asked = [0] * places
        self._settled = [False] * places
        self._changed = asyncio.Condition()

    async def ask(self, place: int) -> int:
        """Return the turn, from 1, of the replacement that the place gets, or 0 if it gets none and is settled."""
        self._asked[place] += 1
        turn = self._asked[place]
        async with self._changed:
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._answer(turn, place) is not None)
        if self._answer(turn, place):
            return turn
        await self.settle(place)
        return 0

    async def take_up(self, place: int, *, turns: int) -> None:
        """Note what an earlier process did at a place: so many replacements, and nothing will follow."""
        self._asked[place] = turns
        await self.settle(place)

    async def settle(self, place: int) -> None:
        """Note that the place will not ask again."""
        self._settled[place] = True
        async with self._changed:
            self._changed.notify_all()

    def _answer(self, turn: int, place: int) -> bool | None:
        """Return whether the request is granted; None while others that come first may still be made."""
        least = most = turn - 1
        for other, asked in enumerate(self._asked):
            if other != place:
                before = turn if other < place else turn - 1
                least += min(before, asked)
                most += min(before, asked) if self._settled[other] else before
        if most < self._budget:
            return True
        return False if least >= self._budget else None
