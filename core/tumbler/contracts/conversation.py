"""What a conversing agent is: a scaffold that a person speaks with, outside of any episode; knows no terminal.

The agent tells what happens as events. Whoever shows them decides how.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from tumbler.contracts.agent import EndReason, EpisodeModel, EpisodeTools, Limits
from tumbler.contracts.chat import ChatModel
from tumbler.contracts.context import ContextPipeline
from tumbler.contracts.sandbox import Sandbox
from tumbler.contracts.values import JSONObject

__all__ = [
    "ApprovalNeeded",
    "CallEnded",
    "CallStarted",
    "Compacted",
    "Conversation",
    "ConversationHost",
    "ConversingAgent",
    "Done",
    "DoneReason",
    "Emit",
    "Event",
    "HookRan",
    "MeasuredPipeline",
    "Notice",
    "Said",
    "Spoken",
    "TextPiece",
    "TokensUsed",
]

DoneReason: TypeAlias = EndReason | Literal["interrupted", "failed"]
"""Why a turn of a conversation is over: one of an agent's own reasons; the person; an error."""


@dataclass(frozen=True, kw_only=True)
class TextPiece:
    """A piece of a reply's text, where the model gives it as it comes; `Said` has the whole."""

    agent_id: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Said:
    """What an agent said beside its calls."""

    agent_id: str
    text: str
    thinking: str = ""


@dataclass(frozen=True, kw_only=True)
class TokensUsed:
    """What one model call took."""

    agent_id: str
    prompt: int
    """Tokens of the whole conversation as it was shown."""
    completion: int = 0
    cached: int = 0
    estimated: bool = False
    """Whether nobody counted the prompt and its length is an estimate."""


@dataclass(frozen=True, kw_only=True)
class CallStarted:
    """A tool call is being carried out."""

    agent_id: str
    call_id: str
    name: str
    arguments: JSONObject


@dataclass(frozen=True, kw_only=True)
class CallEnded:
    """A tool call was answered, be it with a refusal."""

    agent_id: str
    call_id: str
    name: str
    text: str
    errored: bool = False


@dataclass(frozen=True, kw_only=True)
class ApprovalNeeded:
    """A call waits for the person's word: `Conversation.decide` with this id."""

    id: int
    agent_id: str
    name: str
    arguments: JSONObject


@dataclass(frozen=True, kw_only=True)
class Compacted:
    """A part of the conversation is no longer shown to the model as it was."""

    agent_id: str
    tokens_before: int
    tokens_after: int


@dataclass(frozen=True, kw_only=True)
class HookRan:
    """A hook was run."""

    event: str
    name: str
    outcome: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """What the scaffold itself has to say to the person."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Done:
    """The agent has stopped; the person may speak again."""

    reason: DoneReason
    text: str = ""


Event: TypeAlias = (
    TextPiece | Said | TokensUsed | CallStarted | CallEnded | ApprovalNeeded | Compacted | HookRan | Notice | Done
)
Emit: TypeAlias = Callable[[Event], None]
"""Takes events; must neither block nor raise."""


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """One message of a conversation as a person reads it."""

    who: Literal["person", "agent"]
    text: str


@dataclass(frozen=True, kw_only=True)
class ConversationHost:
    """What a conversing agent is given by whoever runs it."""

    model: ChatModel | EpisodeModel
    """A served model, or a policy whose calls are recorded."""
    context: ContextPipeline
    """An empty log, with the strategies over it."""
    limits: Limits
    """For each message of the person."""
    sandbox: Sandbox | None = None
    tools: EpisodeTools | None = None
    """The context strategies' own tools, and the record of all calls."""
    asking: Literal["person", "yes", "nobody"] = "person"
    """Who answers where a call needs approval: the person, by `decide`; always yes; or nobody, so that it is refused.
    With `person`, every call that changes something needs it, unless the agent's settings say otherwise."""
    planning: bool = False
    """Whether the agent begins in plan mode."""


@runtime_checkable
class Conversation(Protocol):
    """One person's conversation with an agent: one message at a time."""

    @property
    def commands(self) -> Mapping[str, str]:
        """Return what may be sent with a slash before it, and what it does."""
        ...

    @property
    def spoken(self) -> Sequence[Spoken]:
        """Return what person and agent have said to each other, as far as it is still in view."""
        ...

    def send(self, text: str) -> AsyncGenerator[Event]:
        """Yield what happens until the agent stops; the last event is `Done`. Whoever stops listening interrupts."""
        ...

    async def interrupt(self) -> None:
        """Stop what is being done now; the conversation can go on."""
        ...

    def decide(self, identity: int, *, allowed: bool, reason: str = "") -> bool:
        """Answer `ApprovalNeeded`; tell whether the call still waits for it."""
        ...

    async def save(self, path: Path) -> object:
        """Write what `converse` takes the conversation up from; also while the agent is at work."""
        ...


@runtime_checkable
class ConversingAgent(Protocol):
    """Optional: an agent that people can speak with, by the same loop that its episodes run in."""

    def converse(self, host: ConversationHost, saved: Path | None = None) -> AbstractAsyncContextManager[Conversation]:
        """Open a conversation; `saved` is a file that `Conversation.save` wrote.

        What the agent holds open ends with the context. Raises `RegistryError` where the file holds no conversation.
        """
        ...


@runtime_checkable
class MeasuredPipeline(Protocol):
    """Optional: a context pipeline that takes the true length of the last prompt. The core's does."""

    def note_prompt(self, tokens: int) -> None:
        """Count on from this length."""
        ...
