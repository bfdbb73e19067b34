"""What a context pipeline may offer a scaffold beyond its log; each protocol is optional. The core's keeps them all."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from tumbler.contracts.context import ContextPipeline, LogEntry, StrategyAnswer, Trigger
from tumbler.contracts.values import JSON, Message, ToolCall, ToolSpec

__all__ = [
    "AgentPipeline",
    "BeforeRewrite",
    "BranchingPipeline",
    "RestorablePipeline",
    "Rewrite",
    "RewriteAnswer",
    "WatchedPipeline",
]


@runtime_checkable
class RestorablePipeline(Protocol):
    """A pipeline that can be put back as it was."""

    def restore(self, entries: Sequence[LogEntry], states: Mapping[str, JSON]) -> None:
        """Take up the log as it was shown, and the strategies' states as `snapshot` gave them.

        The entries keep their ids, exchanges and marks, so that the next prompt is the one that the conversation
        would have had. They are words of an earlier record: a record that is begun anew holds them as a prompt.

        Raises `ContractError` where the log is not empty, and `ContextPlanError` where entries or states are damaged
        or belong to other strategies; nothing has changed then. A state must have the keys that `start` gives, each
        with a value of its kind, or null.
        """
        ...


@runtime_checkable
class AgentPipeline(ContextPipeline, Protocol):
    """A pipeline of one agent that answers the calls of its strategies' tools by itself."""

    @property
    def tools(self) -> Sequence[ToolSpec]:
        """Return the strategies' own tools."""
        ...

    async def call(self, call: ToolCall) -> StrategyAnswer:
        """Carry out a call of one of them."""
        ...


@runtime_checkable
class BranchingPipeline(Protocol):
    """A pipeline that opens others for sub-agents."""

    def branch(self, agent_id: str) -> AgentPipeline:
        """Return an empty log for a sub-agent: the same strategies with fresh states, and files of their own.

        Prompts made of it are to be asked with this `agent_id`, so that their true lengths count. `EpisodeTools` has
        the main agent's strategies answer: give the sub-agent's calls of strategies' tools to the branch.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Rewrite:
    """A rewrite of what the model has seen that is about to be carried out."""

    strategy: str
    """Who asks for it."""
    why: Trigger
    before: Sequence[LogEntry]
    """The log as it is shown now."""
    after: Sequence[LogEntry]
    """As it will be shown."""


@dataclass(frozen=True, kw_only=True)
class RewriteAnswer:
    """What a scaffold says to a rewrite."""

    refusal: str = ""
    """Why it may not be carried out; empty where it may."""
    again: Sequence[Message] = ()
    """What is appended as soon as it is carried out, such as files whose contents are no longer in view."""


BeforeRewrite: TypeAlias = Callable[[Rewrite], Awaitable[RewriteAnswer]]
"""Is told of a rewrite before it is carried out. It must leave the log as it is."""


@runtime_checkable
class WatchedPipeline(Protocol):
    """A pipeline that tells the scaffold of each rewrite before it is carried out."""

    def watch(self, before_rewrite: BeforeRewrite) -> None:
        """Ask `before_rewrite` from now on, and nobody who was asked before.

        Only rewrites that are legal and worth their cost are told. What is refused is recorded as a refusal with the
        check `scaffold`; the strategy's state is then as before, and a prompt that does not fit overflows.
        """
        ...
