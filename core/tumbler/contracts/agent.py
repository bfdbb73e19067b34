"""What an agent scaffold is: it drives model, tools and context until the episode is over."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

from tumbler.contracts.context import ContextPipeline
from tumbler.contracts.environment import ExpertAction, Observation, StepResult, Task
from tumbler.contracts.inference import FinishReason
from tumbler.contracts.values import JSON, Message, ToolCall, ToolSpec

if TYPE_CHECKING:
    from tumbler.contracts.gateway import Endpoint, GatewayCall
    from tumbler.contracts.sandbox import Sandbox, SandboxSpec

__all__ = [
    "AdaptingAgent",
    "Agent",
    "Demonstrator",
    "EndReason",
    "Episode",
    "EpisodeModel",
    "EpisodeTools",
    "HostingEpisode",
    "Limits",
    "NotingTools",
    "Outcome",
    "PreparingAgent",
    "Reply",
]

EndReason: TypeAlias = Literal[
    "finished",
    "terminated",
    "truncated",
    "turn_limit",
    "time_limit",
    "context_overflow",
    "malformed",
    "loop",
    "blocked",
]
"""Why an agent stopped: what it says is its answer; the environment ended or cut off; a limit; the prompt no longer
fits; too many calls that cannot be read; the same calls over and over; a hook."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of one episode."""

    turns: int = 32
    """Model calls."""
    seconds: float = 600.0
    """Wall time of the whole episode."""
    malformed: int = 4
    """Malformed replies after which an agent should give up."""
    clear_at_least: int = 0
    """Tokens that a rewrite of the context must free, or it is refused; 0 for no such bound."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the policy said."""

    text: str
    finish_reason: FinishReason
    chunk: int
    """The chunk's index in the trajectory; give it to `EpisodeTools.call`."""
    prompt_tokens: int = 0
    """Tokens of the prompt, the whole history included."""
    tokens: int = 0
    """Tokens of the reply."""
    cached_tokens: int = 0
    """How many of the prompt's were not computed again."""
    prompt_ids: tuple[int, ...] = ()
    token_ids: tuple[int, ...] = ()
    """The reply as it was sampled, with the id that ended it."""
    logprobs: tuple[float, ...] = ()
    """One for each of `token_ids`; none where another than the policy spoke."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Why the agent stopped."""

    reason: EndReason
    malformed_calls: int = 0
    details: Mapping[str, JSON] = field(default_factory=dict)
    """What else is to be kept of it, such as what hooks did; it is put into the trajectory's details."""


@runtime_checkable
class EpisodeModel(Protocol):
    """The policy, recorded: each call becomes one chunk."""

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        agent_id: str = "main",
        max_tokens: int | None = None,
        temperature: float | None = None,
        trainable: bool = True,
        cause: str | None = None,
    ) -> Reply:
        """Return the policy's reply to the conversation.

        When `messages` extends one of the agent's conversations and its reply, only the new tail is rendered and
        the token history is kept; anything else opens a new segment. Calls may run side by side: two that extend
        the same conversation share its history, and the later one gets a segment of its own.

        Args:
            messages: the whole conversation; a reply of the policy word for word as it was given.
            agent_id: whose conversation it is; a sub-agent has its own.
            max_tokens: tokens of the reply, at most as many as the run samples; None for that many.
            temperature: None samples as the run does; a reply at another one is never trained.
            trainable: False keeps the reply out of training.
            cause: why a new segment is opened, where the caller knows better, such as "tools".

        Raises:
            ContextOverflowError: the prompt leaves no room for a reply.
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
class NotingTools(Protocol):
    """Optional: recorded tools that take note of what a scaffold does by itself. The core's do."""

    def note(self, call: ToolCall, result: StepResult, *, chunk: int) -> None:
        """Record a call that the scaffold carried out itself, and what it brought."""
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
class HostingEpisode(Protocol):
    """Optional: an episode whose agent is a program. The core's episodes have both where the run gives them."""

    @property
    def sandbox(self) -> "Sandbox | None":
        """Return the episode's sandbox; None where the environment needs none."""
        ...

    def serve(self) -> "AbstractAsyncContextManager[Endpoint]":
        """Serve the recorded policy through the run's gateway for as long as the context is open.

        Raises `ContractError` where the run names no gateway.
        """
        ...

    @property
    def calls(self) -> "Sequence[GatewayCall]":
        """Return how the calls went of all that was served so far."""
        ...


@runtime_checkable
class Agent(Protocol):
    """A scaffold, built from its settings. One instance may run many episodes at once: keep no state."""

    async def run(self, episode: Episode) -> Outcome:
        """Drive the episode until the task is done, the environment ends it, or a limit strikes."""
        ...


@runtime_checkable
class PreparingAgent(Protocol):
    """Optional: a scaffold that makes something ready before the first episode, such as a program's installation."""

    async def prepare(self) -> None:
        """Make it ready; called once in a run, outside of every episode's time."""
        ...


@runtime_checkable
class AdaptingAgent(Protocol):
    """Optional: a scaffold that needs something in the sandbox that environments do not put there."""

    async def adapt_sandbox(self, spec: "SandboxSpec") -> "SandboxSpec":
        """Return the specification with what the scaffold needs added, such as a mount."""
        ...


@runtime_checkable
class Demonstrator(Protocol):
    """Optional: a scaffold that can write an expert's action in its own protocol."""

    def write_action(self, action: ExpertAction | None) -> str:
        """Return the reply that makes this action; None is the reply that ends the episode."""
        ...
