"""Structured conversations: what chat APIs and agents exchange, and how they stand in the plain text a policy reads.

A dialect is the convention by which tool calls are written as text. The flat `Message`s that it makes go through any
chat template, so that a policy's sampled text and what an API shows of it can always be told from each other.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from tumbler.contracts.values import JSONObject, Message, Role, ToolSpec

__all__ = ["ChatCall", "ChatMessage", "ChatModel", "ChatReply", "Dialect", "OnText", "Sampled", "StopReason", "Usage"]

StopReason: TypeAlias = Literal["stop", "calls", "length", "abort"]
"""Why a reply ended: by itself; with calls to carry out; at its token limit; cut off by the engine."""
OnText: TypeAlias = Callable[[str], Awaitable[None]]
"""Takes a piece of a reply's text as it comes."""


@dataclass(frozen=True, kw_only=True)
class ChatCall:
    """A tool call within a reply."""

    id: str
    name: str
    arguments: JSONObject
    problem: str | None = None
    """What is wrong with a call that cannot be carried out, in words for the policy; its arguments are then empty."""


@dataclass(frozen=True, kw_only=True)
class ChatMessage:
    """One message of a structured conversation."""

    role: Role
    content: str = ""
    thinking: str = ""
    """What the policy thought before it spoke; None of it is content."""
    calls: tuple[ChatCall, ...] = ()
    """Of an assistant."""
    call_id: str | None = None
    """Of a tool: the call that it answers."""
    name: str | None = None
    """Of a tool: its name."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """The tokens of one call."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    """How many of the prompt's were not computed again."""


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """The tokens of a call. `logprobs[i]` and `pieces[i]` belong to `ids[i]`."""

    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    pieces: tuple[str, ...]
    """The text of each token alone."""


@dataclass(frozen=True, kw_only=True)
class ChatReply:
    """What a model said, read as a dialect has it."""

    message: ChatMessage
    stop: StopReason = "stop"
    text: str = ""
    """The words as sampled, calls and thinking included; keep them in the log, so that ids are never made again."""
    usage: Usage = Usage()
    chunk: int | None = None
    """The chunk's index in the trajectory where the reply was recorded."""
    sampled: Sampled | None = None
    """The reply's tokens where they are known."""
    stop_sequence: str | None = None
    """The stop sequence that the message was cut at, where that is known."""


@runtime_checkable
class Dialect(Protocol):
    """How tool calls, thinking and tool results are written in text."""

    @property
    def name(self) -> str:
        """Return the name that settings use."""
        ...

    def system(self, content: str, tools: Sequence[ToolSpec]) -> str:
        """Return the system message: `content`, and how to call these tools."""
        ...

    def write(self, message: ChatMessage) -> Message:
        """Return a message as text; `read` gives an assistant's back, but for the ids of its calls."""
        ...

    def merge(self, messages: Sequence[ChatMessage]) -> Sequence[Message]:
        """Return a conversation as text; answers to the calls of one reply may share a message."""
        ...

    def read(self, text: str, *, call_prefix: str) -> ChatMessage:
        """Return what the policy's text says; the ids of its calls start with `call_prefix`.

        Never raises: what cannot be read as a call is a call with a `problem`, or content.
        """
        ...


@runtime_checkable
class ChatModel(Protocol):
    """A model that is spoken to in structured messages: the policy through a dialect, or a served API."""

    async def chat(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolSpec] = (),
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        stop: Sequence[str] = (),
        on_text: OnText | None = None,
    ) -> ChatReply:
        """Return the reply. None leaves a setting to the model's own."""
        ...

    @property
    def context_length(self) -> int:
        """Return the longest conversation and reply that the model takes, in tokens."""
        ...

    def count(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> int:
        """Return how many tokens the conversation takes, or the best estimate that can be had."""
        ...
