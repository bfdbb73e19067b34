"""Strategies that only the benchmark has: what remembers nothing, what drops at random, what knows the task."""

from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from experiments.context.grammar import facts_in

from tumbler.contracts.context import Budget, Drop, Edit, LogEntry, Plan, Replace, State, StrategyCaps, Trigger, View
from tumbler.contracts.environment import Task

__all__ = ["Blind", "ForcedCut", "OracleKeep", "RandomDrop", "Shown"]

_THRESHOLD: Final = 0.8
_GOAL: Final = 0.4
"""Shares of the limit at which a control acts, and that it leaves."""


class Blind:
    """Shows the task and the newest exchange: the floor, since a prompt must at least hold the request."""

    @property
    def caps(self) -> StrategyCaps:
        """Promise to rewrite at every turn."""
        return StrategyCaps(rewrites="every_turn")

    def start(self, task: Task, rng: Random) -> State:
        """Return an empty state."""
        return {}

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        """Leave out all but what is pinned, open or newest."""
        return _dropping(_older(view))


class RandomDrop:
    """Drops closed exchanges at random, whole ones, until the prompt is half of what it was; the newest stays."""

    @property
    def caps(self) -> StrategyCaps:
        """Promise to rewrite in batches."""
        return StrategyCaps(rewrites="batched")

    def start(self, task: Task, rng: Random) -> State:
        """Draw the seed of all that will be dropped."""
        return {"seed": rng.getrandbits(32)}

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        """Drop at the threshold."""
        if budget.used < _THRESHOLD * budget.limit:
            return Plan()
        closed = [exchange for exchange in view.exchanges()[:-1] if not exchange.open]
        rng = Random(int(str(state["seed"])))
        state["seed"] = rng.getrandbits(32)
        rng.shuffle(closed)
        gone: list[LogEntry] = []
        left = budget.used
        for exchange in closed:
            if left <= _GOAL * budget.limit:
                break
            gone += exchange.entries
            left -= exchange.tokens
        return _dropping(gone)


class OracleKeep:
    """Knows what the task will need: keeps those sentences, and drops or cuts down all else."""

    @property
    def caps(self) -> StrategyCaps:
        """Promise to rewrite in batches."""
        return StrategyCaps(rewrites="batched")

    def start(self, task: Task, rng: Random) -> State:
        """Take note of what the task's metadata gives away."""
        return {"needed": task.metadata["needed"]}

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        """Act at the threshold."""
        if budget.used < _THRESHOLD * budget.limit:
            return Plan()
        given = state["needed"]
        needed = list(map(str, given)) if isinstance(given, Sequence) else []
        older = [entry for entry in _older(view) if entry.exchange is not None]
        keeping = {entry.exchange for entry in older if _sentences(entry, needed)}
        edits: list[Edit] = []
        for entry in older:
            if entry.exchange in keeping and not entry.sampled:
                content = "\n".join(_sentences(entry, needed)) or "(nothing)"
                edits += [Replace(id=entry.id, content=content, reason="oracle")] * (content != entry.message.content)
        newest = [entry for entry in view.entries if not entry.shown and not entry.pinned and not entry.sampled]
        for entry in newest if budget.used > budget.limit else []:
            last = entry.message.content.splitlines()[-2:]
            content = "\n".join([*_sentences(entry, needed), *last])
            edits.append(Replace(id=entry.id, content=content, reason="oracle"))
        gone = tuple(entry.id for entry in older if entry.exchange not in keeping)
        return Plan(edits=[*edits, Drop(ids=gone)] if gone else edits)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An entry of a prompt."""

    id: int
    text: str
    cut: bool
    """Whether the conversation can be cut before it."""


class ForcedCut:
    """Leaves out all that comes before one entry, as soon as the conversation can be cut there; once."""

    def __init__(self, at: int | None, prompts: MutableSequence[Sequence[Shown]]) -> None:
        """Cut before the entry `at`, nowhere for None; put what each prompt holds into `prompts`."""
        self._at = at
        self._prompts = prompts

    @property
    def caps(self) -> StrategyCaps:
        """Promise nothing that the pipeline would hold a cut against."""
        return StrategyCaps(deterministic=False, rewrites="every_turn")

    def start(self, task: Task, rng: Random) -> State:
        """Return an empty state."""
        return {"done": False}

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        """Cut where it is time."""
        cuts = set(view.safe_cuts())
        self._prompts.append([Shown(id=e.id, text=e.message.content, cut=e.id in cuts) for e in view.entries])
        if self._at is None or state["done"] or self._at not in cuts:
            return Plan()
        state["done"] = True
        place = next(index for index, entry in enumerate(view.entries) if entry.id == self._at)
        return _dropping([entry for entry in view.entries[:place] if not entry.pinned])


def _dropping(entries: Sequence[LogEntry]) -> Plan:
    return Plan(edits=[Drop(ids=tuple(entry.id for entry in entries))] if entries else [])


def _older(view: View) -> list[LogEntry]:
    """Return what is neither pinned, nor in the newest exchange, nor in one that is open."""
    exchanges = view.exchanges()
    newest = exchanges[-1].ids[0] if exchanges else 0
    closed = {entry_id for exchange in exchanges[:-1] if not exchange.open for entry_id in exchange.ids}
    return [e for e in view.entries if not e.pinned and (e.id in closed or (e.exchange is None and e.id < newest))]


def _sentences(entry: LogEntry, needed: Sequence[str]) -> list[str]:
    """Return those of the needed sentences that an entry holds."""
    return [str(fact) for fact in facts_in(entry.message.content) if str(fact) in needed]
