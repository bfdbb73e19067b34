"""What an agent scaffold is: it drives model, tools and context until the episode is over."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from tumbler.contracts.context import ContextPipeline
from tumbler.contracts.environment import ExpertAction, Observation, StepResult, Task
from tumbler.contracts.inference import FinishReason
from tumbler.contracts.values import Message, ToolCall, ToolSpec

__all__ = ["Agent", "Demonstrator", "Episode", "EpisodeModel", "EpisodeTools", "Limits", "Outcome", "Reply"]

StopReason: TypeAlias = Literal["finished", "terminated", "truncated", "turn_limit", "context_overflow", "malformed"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of one episode."""

    turns: int = 32
    """Model calls."""
    seconds: float = 600.0
    """Wall time of the whole episode."""
    malformed: int = 4
    """Malformed replies after which an agent should give up."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the policy said."""

    text: str
    finish_reason: FinishReason
    chunk: int
    """The chunk's index in the trajectory; give it to `EpisodeTools.call`."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Why the agent stopped."""

    reason: StopReason
    malformed_calls: int = 0


@runtime_checkable
class EpisodeModel(Protocol):
    """The policy, recorded: each call becomes one chunk."""

    async def generate(self, messages: Sequence[Message], *, agent_id: str = "main") -> Reply:
        """Return the policy's reply to the conversation.

        When `messages` extends the agent's previous conversation and reply, only the new tail is
        rendered and the token history is kept; anything else opens a new segment. Raises
        `ContextOverflowError` when the prompt leaves no room for a reply.
        """
        ...


@runtime_checkable
class EpisodeTools(Protocol):
    """The environment's tools, recorded: each call ends a chunk."""

    @property
    def specs(self) -> Sequence[ToolSpec]:
        """Return the tools on offer."""
        ...

    async def call(self, call: ToolCall, *, chunk: int) -> StepResult:
        """Carry out a call that the given chunk made."""
        ...

    def reject(self, *, chunk: int, reason: str) -> None:
        """Record that the chunk made no call that can be carried out."""
        ...


@runtime_checkable
class Episode(Protocol):
    """What a scaffold has in hand."""

    @property
    def task(self) -> Task:
        """Return the task."""
        ...

    @property
    def observation(self) -> Observation:
        """Return the first observation."""
        ...

    @property
    def model(self) -> EpisodeModel:
        """Return the recorded policy."""
        ...

    @property
    def tools(self) -> EpisodeTools:
        """Return the recorded tools."""
        ...

    @property
    def context(self) -> ContextPipeline:
        """Return the conversation log and its strategies."""
        ...

    @property
    def limits(self) -> Limits:
        """Return the episode's bounds."""
        ...


@runtime_checkable
class Agent(Protocol):
    """A scaffold, built from its settings. One instance may run many episodes at once: keep no state."""

    async def run(self, episode: Episode) -> Outcome:
        """Drive the episode until the task is done, the environment ends it, or a limit strikes."""
        ...


@runtime_checkable
class Demonstrator(Protocol):
    """Optional: a scaffold that can write an expert's action in its own protocol."""

    def write_action(self, action: ExpertAction | None) -> str:
        """Return the reply that makes this action; None is the reply that ends the episode."""
        ...
