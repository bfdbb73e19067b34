"""The context strategy `summary`: the policy sums up the middle of its conversation; knows no other strategy."""

from collections.abc import Sequence
from random import Random
from typing import Annotated, Final

from pydantic import Field, NonNegativeInt, PositiveInt

from tumbler.config import Settings
from tumbler.contracts.context import (
    Budget,
    Edit,
    Plan,
    Replace,
    State,
    StrategyCaps,
    Trigger,
    View,
)
from tumbler.contracts.environment import Task
from tumbler_agents.context.leaving_out import SHORTEST, LeavingOut, overhead
from tumbler_agents.context.middle import choose_middle
from tumbler_agents.context.newest import fit_newest, newest_fits, shorten_newest
from tumbler_agents.context.reciting import newest_exchange
from tumbler_agents.context.shares import ShareOrRange, draw_share
from tumbler_agents.context.summariser import INSTRUCTIONS, Summariser

__all__ = ["SummarySettings", "SummaryStrategy"]


_MOST_IN_A_ROW: Final = 2
"""Rewrites on consecutive prompts, after which the pipeline refuses another."""


class SummarySettings(Settings):
    """When the conversation is summed up, and how."""

    threshold: ShareOrRange = 0.8
    """The share of the prompt's limit at which the middle is summed up; [low, high] draws one for each group."""

    keep_first: NonNegativeInt = 0
    """Exchanges at the beginning to show word for word, as far as they fit."""

    keep_last: PositiveInt = 4
    """Exchanges at the end to show word for word, as far as they fit; the newest counts."""

    max_tokens: Annotated[int, Field(ge=64)] = 1024
    """Tokens of a summary, at most; a quarter of the threshold in smaller windows."""

    trainable: bool = True
    """Whether the policy is trained on its summaries."""

    calls: PositiveInt = 4
    """Model calls for one summary, at most, where its source does not fit one prompt."""

    instructions: str = INSTRUCTIONS
    """What the policy is told to keep; a prompt with less than twice the room has a brief one instead."""


class SummaryStrategy:
    """Shows a summary in place of what is older than the last exchanges. Pinned entries stay, open exchanges too.

    It acts on its threshold, on an overflow and on request. Where no summary can be had, or it would be longer than
    what it stands for, a note stands there instead, beside the earlier summary.
    """

    def __init__(self, settings: SummarySettings) -> None:
        """Keep the settings."""
        self._settings = settings

    @property
    def caps(self) -> StrategyCaps:
        """Promise to bound the conversation at the price of model calls; all else that it does is deterministic."""
        return StrategyCaps(bounded=True, calls_model=True, rewrites="batched")

    def start(self, task: Task, rng: Random) -> State:
        """Draw the threshold."""
        return {"threshold": draw_share(self._settings.threshold, rng), "last": -1, "in_a_row": 0}

    def threshold(self, state: State) -> float:
        """Return the share that was drawn."""
        share = state["threshold"]
        return share if isinstance(share, float) else 1.0

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        """Sum up the middle, unless a turn has merely ended."""
        if why == "turn_end":
            return Plan()
        turn, (last, in_a_row) = newest_exchange(view), _rewritten(state)
        follows = turn <= last + 1
        # A third rewrite in a row is refused: a summary at every prompt would be paid for in vain.
        if follows and why == "threshold":
            return Plan()
        if follows and in_a_row >= _MOST_IN_A_ROW and (clips := fit_newest(view, budget)):
            return Plan(edits=clips)
        aim = int(self.threshold(state) * budget.limit)
        leaving = self._choose(view, budget, aim, forced=why == "overflow")
        size = min(self._settings.max_tokens, aim // 4, leaving.room)
        worth = leaving.fresh and size >= SHORTEST
        if not worth and why != "overflow":
            return Plan()
        summary = await self._summary(view, budget, leaving, size) if worth else None
        edits = leaving.noted() if summary is None else summary
        if edits:
            state.update(last=turn, in_a_row=in_a_row + 1 if follows else 1)
        return Plan(edits=edits)

    def _choose(self, view: View, budget: Budget, aim: int, *, forced: bool) -> LeavingOut:
        """Choose what to leave out, so that what stays takes about half of `aim`."""
        room = aim // 2 - overhead(view, budget)
        spare = newest_fits(view, budget, SHORTEST * 2)
        clips: Sequence[Replace] = () if spare or not forced else shorten_newest(view, room)
        first, last = self._settings.keep_first, self._settings.keep_last
        gone = choose_middle(view, keep_first=first, keep_last=last, room=room, spare=spare or bool(clips))
        return LeavingOut.of(view, budget, gone, clips)

    async def _summary(self, view: View, budget: Budget, leaving: LeavingOut, size: int) -> tuple[Edit, ...] | None:
        """Return the edits that show a summary of at most `size` tokens; None where none can be had."""
        settings = self._settings
        if view.io is None:
            return None
        summariser = Summariser(
            io=view.io,
            instructions=settings.instructions,
            task="\n\n".join(e.message.content for e in view.entries if e.pinned and e.message.role == "user"),
            room=budget.limit,
            calls=settings.calls,
            trainable=settings.trainable,
        )
        reply = await summariser.summarise(leaving.gone, size)
        return None if reply is None else leaving.summarised(reply)


def _rewritten(state: State) -> tuple[int, int]:
    """Return at which exchange the last summary was made, and how many on consecutive prompts."""
    return int(str(state["last"])), int(str(state["in_a_row"]))
