"""The context strategy `retrieval`: passages that are no longer in view come back where the turn seems to need them."""

from collections.abc import Sequence
from random import Random
from typing import Final

from pydantic import Field, PositiveInt

from tumbler.config import Settings
from tumbler.contracts.context import Budget, LogEntry, Plan, Replace, State, StrategyCaps, StrategyIO, Trigger, View
from tumbler.contracts.environment import Task
from tumbler_agents.context.excerpt import Count
from tumbler_agents.context.passages import Memory, Passage
from tumbler_agents.context.read_output import output_name

__all__ = ["Retrieval", "RetrievalSettings"]

_HEADING: Final = "\n\n[Earlier passages that may help and are no longer shown above:]"


class RetrievalSettings(Settings):
    """What is searched, and how much is fetched."""

    max_tokens: PositiveInt = 400
    """Tokens that are added to a turn at most."""

    passage_tokens: PositiveInt = 100
    """Tokens of one passage at most."""

    min_score: float = Field(default=2.0, ge=0)
    """Passages with a lower BM25 score are not fetched; 2 is about one shared word that is rare among some ten
    passages."""

    remember_tokens: PositiveInt = 100_000
    """Tokens of the conversation that are kept to be searched; the oldest are forgotten first."""

    files: tuple[str, ...] = ()
    """Names of further files of the episode to search, such as "notes.md"; outputs that `offload-output` has put into
    files are always searched."""


class Retrieval:
    """Adds what it finds to the newest message, which no prompt has held yet: the token prefix is kept.

    It remembers what it has seen in view: put it behind the strategies that shorten outputs at arrival.
    """

    def __init__(self, settings: RetrievalSettings) -> None:
        """Keep the settings."""
        self._settings = settings

    @property
    def caps(self) -> StrategyCaps:
        """Promise to keep every token prefix."""
        return StrategyCaps()

    def start(self, task: Task, rng: Random) -> State:
        """Remember nothing."""
        return {"memory": None}

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        """Fetch what the newest message, and the reply before it, have words in common with."""
        if view.io is None:
            return Plan()
        memory = await self._remember(view, Memory.load(state["memory"]), view.io)
        state["memory"] = memory.to_json()
        newest = _newest(view)
        # Two texts put together may be a token more than both of them alone.
        room = min(self._settings.max_tokens, budget.limit - budget.used - 1)
        if newest is None or room <= 0:
            return Plan()
        # What has only just arrived, or gone to a file, is left alone: it would answer its own question.
        own = (str(newest.id), output_name(newest.id))
        found = memory.search(_query(view, newest), but=own, least=self._settings.min_score)
        block = _choose(found, view, room, view.io.count)
        if not block:
            return Plan()
        return Plan(edits=[Replace(id=newest.id, content=newest.message.content + block, reason="retrieval")])

    async def _remember(self, view: View, memory: Memory, io: StrategyIO) -> Memory:
        """Keep what is in view for the first time, and the files that it names."""
        for entry in view.entries:
            if entry.pinned or entry.summary:
                continue
            text, name = entry.message.content, output_name(entry.id)
            if str(entry.id) not in memory:
                memory.add(str(entry.id), text, self._settings.passage_tokens, io.count)
            # An output goes to a file when it comes, and no prompt has held yet what is shown of it.
            if not entry.shown and name not in memory and name in text:
                await self._read(name, memory, io)
        for name in self._settings.files:
            await self._read(name, memory, io)
        memory.forget(self._settings.remember_tokens)
        return memory

    async def _read(self, name: str, memory: Memory, io: StrategyIO) -> None:
        text = await io.files.read(name)
        if text is not None:
            memory.add(name, text, self._settings.passage_tokens, io.count)


def _choose(passages: Sequence[Passage], view: View, room: int, count: Count) -> str:
    """Return the first of the passages that are out of view, as many as have room."""
    contents = {str(entry.id): entry.message.content for entry in view.entries}
    shown, block = "\0".join(contents.values()), ""
    for passage in passages:
        # Most are where they came from: looking there first keeps the search short.
        if passage.text in contents.get(passage.source, "") or passage.text in block or passage.text in shown:
            continue
        longer = f"{block or _HEADING}\n{_label(passage.source)}\n{passage.text}"
        if count(longer) > room:
            break
        block = longer
    return block


def _newest(view: View) -> LogEntry | None:
    """Return the last message, if no prompt has held it and it is not the policy's."""
    last = view.entries[-1] if view.entries else None
    if last is None or last.pinned or last.shown or last.summary or last.sampled or last.message.role == "system":
        return None
    if any(exchange.open for exchange in view.exchanges()):
        return None
    return last


def _query(view: View, newest: LogEntry) -> str:
    """Return the words of the newest message, and of the reply that it answers."""
    own = [entry for entry in view.entries if newest.exchange is not None and entry.exchange == newest.exchange]
    return "\n".join(entry.message.content for entry in own or [newest])


def _label(source: str) -> str:
    return "[from an earlier message]" if source.isdecimal() else f"[from {source}]"
