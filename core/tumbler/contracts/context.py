"""What a context strategy is: it plans edits of what the model sees; the log itself is append-only."""

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from tumbler.contracts.environment import Task
from tumbler.contracts.strategy_io import EpisodeFiles, StrategyIO, StrategyReply
from tumbler.contracts.values import JSON, Message, ToolCall, ToolSpec

__all__ = [
    "Append",
    "Budget",
    "ContextPipeline",
    "ContextStrategy",
    "Drop",
    "Edit",
    "EpisodeFiles",
    "Exchange",
    "LogEntry",
    "Pin",
    "Plan",
    "Refusal",
    "Replace",
    "Reset",
    "State",
    "StrategyAnswer",
    "StrategyCaps",
    "StrategyIO",
    "StrategyReply",
    "StrategyWithThreshold",
    "StrategyWithTools",
    "Summarise",
    "Trigger",
    "View",
]

State: TypeAlias = MutableMapping[str, JSON]
"""A strategy's memory within one episode: plain JSON, so that it can be checkpointed."""

Trigger: TypeAlias = Literal["turn_end", "threshold", "overflow", "tool_request", "user_request"]
"""Why a strategy is asked: a turn ended; its threshold was passed; the prompt does not fit; the policy, or the user,
asked for compaction."""


@dataclass(frozen=True, kw_only=True)
class StrategyCaps:
    """What a strategy promises."""

    bounded: bool = False
    """Whether it keeps every conversation below the budget."""
    deterministic: bool = True
    calls_model: bool = False
    rewrites: Literal["never", "batched", "every_turn"] = "never"
    """How often it changes what the model has seen. Edits of entries that were never shown are no rewrite."""
    safe_for_training: bool = True


@dataclass(frozen=True, kw_only=True)
class LogEntry:
    """One message of the log. `pinned` ones (system, task) cannot be edited."""

    id: int
    message: Message
    tokens: int
    """How many tokens the served tokenizer makes of the message, its frame in the chat template included."""
    pinned: bool = False
    sampled: bool = False
    """Whether the policy wrote it."""
    exchange: int | None = None
    """Which exchange it belongs to: a reply of the policy and the answers to its calls. None before the first one,
    and for what a user says in between."""
    calls: tuple[str, ...] = ()
    """The ids of the calls that this reply makes."""
    answers: str | None = None
    """The id of the call that this message answers."""
    tool: str = ""
    """The name of the tool that answers, where the scaffold tells it."""
    shown: bool = False
    """Whether a prompt has held it, as it stands."""
    summary: bool = False
    """Whether it stands for entries that are left out."""
    original: str = ""
    """What it said before an edit that left it readable put other content in its place."""


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A reply and the answers to its calls: shown or left out as a whole."""

    entries: tuple[LogEntry, ...]
    open: bool
    """Whether a call is still unanswered; such an exchange stays."""

    @property
    def ids(self) -> tuple[int, ...]:
        """Return the ids of its entries."""
        return tuple(entry.id for entry in self.entries)

    @property
    def tokens(self) -> int:
        """Return the tokens of its entries."""
        return sum(entry.tokens for entry in self.entries)


@dataclass(frozen=True, kw_only=True)
class View:
    """What the model would see now, and what a strategy may use."""

    entries: Sequence[LogEntry]
    io: StrategyIO | None = None
    """None where a strategy is only tried out on entries."""

    def exchanges(self) -> Sequence[Exchange]:
        """Return the exchanges in view, oldest first."""
        found: dict[int, list[LogEntry]] = {}
        for entry in self.entries:
            if entry.exchange is not None:
                found.setdefault(entry.exchange, []).append(entry)
        return [Exchange(entries=tuple(entries), open=_open(entries)) for entries in found.values()]

    def safe_cuts(self) -> Sequence[int]:
        """Return the ids of entries before which the conversation can be cut: all calls before them are answered."""
        return list(_cuts(self.entries))


def _open(entries: Sequence[LogEntry]) -> bool:
    answered = {entry.answers for entry in entries}
    return any(call not in answered for entry in entries for call in entry.calls)


def _cuts(entries: Sequence[LogEntry]) -> Iterator[int]:
    last = {entry.exchange: index for index, entry in enumerate(entries) if entry.exchange is not None}
    by_exchange: dict[int, list[LogEntry]] = {}
    for entry in entries:
        if entry.exchange is not None:
            by_exchange.setdefault(entry.exchange, []).append(entry)
    reach = 0
    for index, entry in enumerate(entries):
        if index >= reach and not entry.pinned:
            yield entry.id
        if entry.exchange is not None:
            unanswered = _open(by_exchange[entry.exchange])
            reach = max(reach, len(entries) if unanswered else last[entry.exchange] + 1)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Tokens, counted with the served tokenizer."""

    limit: int
    """The model's context, less the room kept for a reply."""
    used: int
    """What the next prompt would take."""
    clear_at_least: int = 0
    """A rewrite that frees fewer tokens than this is refused: it would cost more cache than it gives."""


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
    readable: bool = False
    """Whether strategies may still read what the entry said, as its `original`: a summary is then made of that."""


@dataclass(frozen=True, kw_only=True)
class Summarise:
    """Show one text in place of entries, where the first of them stood."""

    ids: tuple[int, ...]
    text: str
    call: int | None = None
    """The call to `StrategyIO.model` whose reply the text holds; None for a text that no model wrote."""


@dataclass(frozen=True, kw_only=True)
class Append:
    """Add a message at the end. A volatile one is in the next prompt only."""

    message: Message
    volatile: bool = False


@dataclass(frozen=True, kw_only=True)
class Reset:
    """Start afresh: keep what is pinned and these entries."""

    keep: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Pin:
    """Let no later edit touch these entries."""

    ids: tuple[int, ...]


Edit: TypeAlias = Drop | Replace | Summarise | Append | Reset | Pin


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The edits that a strategy asks for, carried out in order; none leaves the view as it is."""

    edits: Sequence[Edit] = field(default_factory=tuple)


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A plan that was not carried out, since it was not worth its cost."""

    strategy: str
    check: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class StrategyAnswer:
    """What a call of a strategy's own tool brought."""

    text: str
    errored: bool = False
    plan: bool = False
    """Whether the strategies are to plan now, with the trigger `tool_request`."""


@runtime_checkable
class ContextStrategy(Protocol):
    """A context strategy, built from its settings. Instances keep no state of their own."""

    @property
    def caps(self) -> StrategyCaps:
        """Say what the strategy promises."""
        ...

    def start(self, task: Task, rng: Random) -> State:
        """Return the strategy's state at the start of an episode; `rng` is equal within a group of rollouts."""
        ...

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        """Return the edits to make before the next model call."""
        ...


@runtime_checkable
class StrategyWithThreshold(Protocol):
    """Optional: a strategy that is asked with the trigger `threshold` once so much of the budget is used."""

    def threshold(self, state: State) -> float:
        """Return the share of the budget's limit, between 0 and 1."""
        ...


@runtime_checkable
class StrategyWithTools(Protocol):
    """Optional: a strategy that gives the policy tools of its own, such as one that asks for compaction."""

    def tools(self) -> Sequence[ToolSpec]:
        """Return the tools; equal for a whole episode."""
        ...

    async def call(self, call: ToolCall, view: View, state: State) -> StrategyAnswer:
        """Carry out a call of one of them."""
        ...


@runtime_checkable
class ContextPipeline(Protocol):
    """The episode's log and the strategies over it, as a scaffold sees them."""

    def append(
        self,
        message: Message,
        *,
        pinned: bool = False,
        sampled: bool = False,
        calls: Sequence[str] | None = None,
        answers: str | None = None,
        tool: str = "",
    ) -> int:
        """Add a message to the log and return its id.

        A reply names the ids of its calls in `calls`, none where it makes none, and each answer names its own in
        `answers`, and its `tool`. Where `calls` is left out, the message that follows the reply is its answer.
        """
        ...

    async def messages(self) -> Sequence[Message]:
        """Let the strategies plan, apply and check their edits, and return what the model is to see.

        Raises `ContextOverflowError` when the view does not fit after all strategies have planned, and
        `ContextPlanError` for a plan that breaks a rule.
        """
        ...

    def request(self, why: Trigger) -> None:
        """Let the strategies plan for this reason before the next prompt: `tool_request` or `user_request`."""
        ...

    @property
    def entries(self) -> Sequence[LogEntry]:
        """Return the log as it is shown now."""
        ...

    def snapshot(self) -> Mapping[str, JSON]:
        """Return the strategies' states, for checkpoints; see `tumbler.contracts.pipelines.RestorablePipeline`."""
        ...
