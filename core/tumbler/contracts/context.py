"""What a context strategy is: it plans edits of what the model sees; the log itself is append-only."""

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from tumbler.contracts.environment import Task
from tumbler.contracts.values import JSON, Message

__all__ = [
    "Budget",
    "ContextPipeline",
    "ContextStrategy",
    "Drop",
    "Edit",
    "LogEntry",
    "Plan",
    "Replace",
    "State",
    "StrategyCaps",
    "Trigger",
    "View",
]

State: TypeAlias = MutableMapping[str, JSON]
"""A strategy's memory within one episode: plain JSON, so that it can be checkpointed."""

Trigger: TypeAlias = Literal["turn_end", "threshold", "overflow"]


@dataclass(frozen=True, kw_only=True)
class StrategyCaps:
    """What a strategy promises."""

    bounded: bool = False
    """Whether it keeps every conversation below the budget."""
    deterministic: bool = True
    calls_model: bool = False
    rewrites: Literal["never", "batched", "every_turn"] = "never"
    safe_for_training: bool = True


@dataclass(frozen=True, kw_only=True)
class LogEntry:
    """One message of the log. `pinned` ones (system, task) cannot be edited."""

    id: int
    message: Message
    tokens: int
    """How many tokens the served tokenizer makes of the content."""
    pinned: bool = False
    sampled: bool = False
    """Whether the policy wrote it."""


@dataclass(frozen=True, kw_only=True)
class View:
    """What the model would see now."""

    entries: Sequence[LogEntry]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Tokens, counted with the served tokenizer."""

    limit: int
    """The model's context, less the room kept for a reply."""
    used: int
    """What the next prompt would take."""


@dataclass(frozen=True, kw_only=True)
class Drop:
    """Leave entries out of the prompt."""

    ids: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Replace:
    """Show other content in place of an entry's; the entry is then no longer the policy's own words."""

    id: int
    content: str
    reason: str


Edit: TypeAlias = Drop | Replace


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The edits that a strategy asks for; none leaves the view as it is."""

    edits: Sequence[Edit] = field(default_factory=tuple)


@runtime_checkable
class ContextStrategy(Protocol):
    """A context strategy, built from its settings. Instances keep no state of their own."""

    @property
    def caps(self) -> StrategyCaps:
        """Say what the strategy promises."""
        ...

    def start(self, task: Task, rng: Random) -> State:
        """Return the strategy's state at the start of an episode."""
        ...

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        """Return the edits to make before the next model call."""
        ...


@runtime_checkable
class ContextPipeline(Protocol):
    """The episode's log and the strategies over it, as a scaffold sees them."""

    def append(self, message: Message, *, pinned: bool = False, sampled: bool = False) -> None:
        """Add a message to the log."""
        ...

    async def messages(self) -> Sequence[Message]:
        """Let the strategies plan, apply and check their edits, and return what the model is to see.

        Raises `ContextOverflowError` when the view does not fit after all strategies have planned.
        """
        ...

    def snapshot(self) -> Mapping[str, JSON]:
        """Return the strategies' states, for checkpoints."""
        ...
