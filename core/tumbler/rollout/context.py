"""The conversation log of an episode and the strategies that plan edits of what the model sees."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from tumbler.contracts.context import (
    Budget,
    ContextStrategy,
    Drop,
    Edit,
    LogEntry,
    Replace,
    State,
    Trigger,
    View,
)
from tumbler.contracts.environment import Task
from tumbler.contracts.inference import TextTokenizer
from tumbler.contracts.values import JSON, Message
from tumbler.errors import ContextOverflowError, ContractError
from tumbler.seeding import derive_seed

__all__ = ["NamedStrategy", "StrategyPipeline"]


@dataclass(frozen=True, kw_only=True)
class NamedStrategy:
    """A strategy with the name that error messages use."""

    name: str
    strategy: ContextStrategy


class StrategyPipeline:
    """An append-only log, shown through the edits that each strategy asked for, in order."""

    def __init__(
        self, strategies: Sequence[NamedStrategy], tokenizer: TextTokenizer, *, room: int, task: Task, seed: int
    ) -> None:
        """Start with an empty log; `room` tokens of the context are kept for a reply."""
        self._tokenizer = tokenizer
        self._limit = tokenizer.context_length - room
        self._shown: list[LogEntry] = []
        self._count = 0
        self._strategies = list(strategies)
        self._states: list[State] = [
            each.strategy.start(task, Random(derive_seed(seed, "context", index, each.name)))
            for index, each in enumerate(strategies)
        ]

    def append(self, message: Message, *, pinned: bool = False, sampled: bool = False) -> None:
        """Add a message to the log."""
        tokens = len(self._tokenizer.encode(message.content))
        entry = LogEntry(id=self._count, message=message, tokens=tokens, pinned=pinned, sampled=sampled)
        self._count += 1
        self._shown.append(entry)

    async def messages(self) -> Sequence[Message]:
        """Let the strategies plan, apply and check their edits, and return what the model is to see."""
        why: Trigger = "overflow" if self._used() > self._limit else "turn_end"
        for named, state in zip(self._strategies, self._states, strict=True):
            budget = Budget(limit=self._limit, used=self._used())
            plan = await named.strategy.plan(View(entries=tuple(self._shown)), budget, state, why)
            for edit in plan.edits:
                self._apply(named.name, edit)
        if self._used() > self._limit:
            raise ContextOverflowError(
                f"the conversation takes {self._used()} tokens and {self._limit} are left for it; "
                "shorten the task's observations, lower max_tokens, or add a context strategy that bounds it"
            )
        return [entry.message for entry in self._shown]

    def snapshot(self) -> Mapping[str, JSON]:
        """Return a copy of the strategies' states."""
        return {
            f"{index}:{named.name}": json.loads(json.dumps(state))
            for index, (named, state) in enumerate(zip(self._strategies, self._states, strict=True))
        }

    def _used(self) -> int:
        return sum(entry.tokens for entry in self._shown)

    def _apply(self, name: str, edit: Edit) -> None:
        ids = edit.ids if isinstance(edit, Drop) else (edit.id,)
        shown = {entry.id: entry for entry in self._shown}
        for entry_id in ids:
            if entry_id not in shown:
                raise ContractError(f"context strategy {name!r} edits entry {entry_id}, which is not in view")
            if shown[entry_id].pinned:
                raise ContractError(f"context strategy {name!r} edits entry {entry_id}, which is pinned")
        if isinstance(edit, Replace):
            self._shown = [self._replaced(entry, edit) if entry.id == edit.id else entry for entry in self._shown]
        else:
            self._shown = [entry for entry in self._shown if entry.id not in ids]

    def _replaced(self, entry: LogEntry, edit: Replace) -> LogEntry:
        message = Message(role=entry.message.role, content=edit.content)
        return replace(entry, message=message, tokens=len(self._tokenizer.encode(edit.content)), sampled=False)
