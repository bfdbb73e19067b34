"""The context strategy `summary`: the policy sums up the middle of its conversation; knows no other strategy."""

from functools import partial
from random import Random
from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from tumbler.config import Settings
from tumbler.contracts.context import Budget, Edit, Plan, State, StrategyCaps, Trigger, View
from tumbler.contracts.environment import Task
from tumbler_agents.context.fitting import fit_new
from tumbler_agents.context.leaving_out import SHORTEST, LeavingOut, words_around
from tumbler_agents.context.measuring import overhead, tokens_of
from tumbler_agents.context.middle import choose_middle
from tumbler_agents.context.reciting import newest_exchange
from tumbler_agents.context.remembered import read_count, read_share
from tumbler_agents.context.shares import ShareOrRange, draw_share
from tumbler_agents.context.summariser import INSTRUCTIONS, Summariser
from tumbler_agents.context.worth import MOST_IN_A_ROW, is_full

__all__ = ["SummarySettings", "SummaryStrategy"]


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
    """Shows a summary in place of what is older than the last exchanges. Pinned entries and open exchanges stay.

    What no prompt has held stays, too, and is cut where it is too long for the window.

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
        return read_share(state, "threshold")

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        """Sum up the middle, unless a turn has merely ended."""
        if why == "turn_end":
            return Plan()
        full, turn = is_full(budget), newest_exchange(view)
        follows, in_a_row = turn <= read_count(state, "last") + 1, read_count(state, "in_a_row")
        # A summary at every prompt would be paid for in vain: the pipeline refuses a third one in a row.
        if follows and not full and (why == "threshold" or in_a_row >= MOST_IN_A_ROW):
            return Plan()
        most = min(self._settings.max_tokens, self._aim(budget, state) // 4)
        leaving = self._choose(view, budget, self._aim(budget, state), most)
        size = min(most, leaving.room)
        worth = leaving.fresh and size >= SHORTEST
        if not worth and not full:
            return Plan()
        summary = await self._summary(view, budget, leaving, size) if worth else None
        edits = leaving.noted() if summary is None else summary
        if leaving.gone:
            state.update(last=turn, in_a_row=in_a_row + 1 if follows else 1)
        return Plan(edits=edits)

    def _aim(self, budget: Budget, state: State) -> int:
        return int(self.threshold(state) * budget.limit)

    def _choose(self, view: View, budget: Budget, aim: int, most: int) -> LeavingOut:
        """Choose what to leave out, so that what stays takes about half of `aim`, and a summary at most `most`.

        Where that cannot fit with all that is new, first the new is cut, then the summary, and at last the new may go.
        """
        settings, room = self._settings, aim // 2 - overhead(view, budget)
        choose = partial(choose_middle, view, keep_first=settings.keep_first, keep_last=settings.keep_last, room=room)
        gone = choose(spare=True)
        if not is_full(budget):
            return LeavingOut.of(view, budget, gone)
        for summary in (words_around(view) + most, words_around(view) + SHORTEST, 0):
            # What takes less than its summary stays.
            leaving = gone if tokens_of(gone) > summary else ()
            over = budget.used - budget.limit - tokens_of(leaving) + (summary if leaving else 0)
            if (clips := fit_new(view, over)) is not None:
                return LeavingOut.of(view, budget, leaving, clips)
        return LeavingOut.of(view, budget, choose(spare=False))

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
