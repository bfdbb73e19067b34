"""The context strategy `mask-observations`: a placeholder in place of old outputs; the policy's words all stay."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import dropwhile
from random import Random

from pydantic import NonNegativeInt, PositiveInt

from tumbler.config import Settings
from tumbler.contracts.context import Budget, Exchange, LogEntry, Plan, Replace, State, StrategyCaps, Trigger, View
from tumbler.contracts.environment import Task
from tumbler_agents.context.excerpt import Count, split_frame
from tumbler_agents.context.measuring import counter
from tumbler_agents.context.observations import calls_answered, is_observation
from tumbler_agents.context.remembered import read_count
from tumbler_agents.context.worth import is_full, least_freed

__all__ = ["MaskObservations", "MaskObservationsSettings"]


class MaskObservationsSettings(Settings):
    """Which outputs are masked, and how many at once."""

    keep: NonNegativeInt = 5
    """How many of the newest exchanges keep their outputs; one that no prompt has held yet stays in any case."""

    poll: PositiveInt = 5
    """Outputs are masked only when there are at least this many, so that the prompt's cache is rarely lost; when the
    prompt does not fit, any number will do."""

    exclude: tuple[str, ...] = ()
    """Names of tools, or patterns such as "todo*", whose outputs are never masked."""


@dataclass(frozen=True, kw_only=True)
class _Mask:
    """A placeholder for an output, and how many tokens it saves."""

    entry: LogEntry
    text: str
    saved: int


class MaskObservations:
    """Masks in batches. It does not bound the prompt: replies, users' messages and the newest outputs stay."""

    def __init__(self, settings: MaskObservationsSettings) -> None:
        """Keep the settings."""
        self._settings = settings

    @property
    def caps(self) -> StrategyCaps:
        """Promise to rewrite in batches."""
        return StrategyCaps(rewrites="batched")

    def start(self, task: Task, rng: Random) -> State:
        """Begin with no exchange that is done with, and no reply read."""
        return {"done": 0, "tools": {}}

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        """Mask the old outputs once there are enough of them and it frees enough."""
        count, tools = counter(view), _tools(state)
        old = self._old(view, state, tools, count)
        found = [
            (exchange, entry)
            for exchange in old
            for entry in exchange.entries
            if not exchange.open and entry.shown and self._may_be_masked(entry, tools, count)
        ]
        # Replies are read, each of them once, only where it would be enough if no placeholder named its tool.
        if not self._enough([_mask(entry, "", count) for _, entry in found], budget):
            return Plan()
        state["tools"] = tools = _with_tools(found, tools)
        masks = [
            _mask(entry, tool, count) for _, entry in found if not self._excluded(tool := _tool(entry, tools) or "")
        ]
        if not self._enough(masks, budget):
            return Plan()
        return Plan(
            edits=[
                Replace(id=each.entry.id, content=each.text, reason="old output", readable=True)
                for each in masks
                if each.saved > 0
            ]
        )

    def _old(self, view: View, state: State, tools: Mapping[str, str], count: Count) -> Sequence[Exchange]:
        """Return the old exchanges from the first one on that is not done with, and forget what came before it."""
        done = read_count(state, "done")
        recent = View(entries=[entry for entry in view.entries if (entry.exchange or 0) > done]).exchanges()
        old = recent[: max(0, len(recent) - self._settings.keep)]
        left = list(dropwhile(lambda exchange: self._is_done(exchange, tools, count), old))
        if len(left) < len(old):
            state["done"] = old[len(old) - len(left) - 1].entries[0].exchange
            kept = {str(entry.id) for exchange in left for entry in exchange.entries}
            state["tools"] = {entry: tool for entry, tool in tools.items() if entry in kept}
        return left

    def _is_done(self, exchange: Exchange, tools: Mapping[str, str], count: Count) -> bool:
        """Return whether there is nothing to mask in the exchange, now or later."""
        return not exchange.open and not any(self._may_be_masked(entry, tools, count) for entry in exchange.entries)

    def _may_be_masked(self, entry: LogEntry, tools: Mapping[str, str], count: Count) -> bool:
        """Return whether it is a whole output, of a tool not known to be excluded, that a placeholder would shorten."""
        whole = is_observation(entry) and not entry.original and not self._excluded(_tool(entry, tools))
        return whole and _mask(entry, "", count).saved > 0

    def _enough(self, masks: Sequence[_Mask], budget: Budget) -> bool:
        saved = [each.saved for each in masks if each.saved > 0]
        return sum(saved) >= least_freed(budget) and (len(saved) >= self._settings.poll or is_full(budget))

    def _excluded(self, tool: str | None) -> bool:
        return tool is not None and any(fnmatchcase(tool, pattern) for pattern in self._settings.exclude)


def _tools(state: State) -> dict[str, str]:
    """Return the tools that were read from replies: entry id → name, empty where it cannot be told."""
    tools = state["tools"]
    return {entry: str(tool) for entry, tool in tools.items()} if isinstance(tools, Mapping) else {}


def _tool(entry: LogEntry, tools: Mapping[str, str]) -> str | None:
    """Return the name of the tool, empty where it cannot be told; None where nobody has looked yet."""
    return entry.tool or tools.get(str(entry.id))


def _with_tools(found: Iterable[tuple[Exchange, LogEntry]], tools: Mapping[str, str]) -> dict[str, str]:
    known = dict(tools)
    for exchange, entry in found:
        if _tool(entry, known) is None:
            calls = calls_answered(exchange)
            answers = [each.id for each in exchange.entries if is_observation(each)]
            known |= {str(each): calls[each].name if each in calls else "" for each in answers}
    return known


def _mask(entry: LogEntry, tool: str, count: Count) -> _Mask:
    """Return the placeholder, within the tag that a dialect has put around the output."""
    opening, body, closing = split_frame(entry.message.content)
    # A name that the policy made up may be anything; the placeholder must stay short and on one line.
    of = f" of {tool}" if re.fullmatch(r"[\w.:/-]{1,64}", tool) else ""
    text = f"{opening}[old output{of} left out: {count(body)} tokens]{closing}"
    return _Mask(entry=entry, text=text, saved=count(entry.message.content) - count(text))
