"""What a wire format is: one chat API's requests and answers; knows no server and no policy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from tumbler.contracts.chat import ChatMessage, ChatReply
from tumbler.contracts.values import JSONObject, ToolSpec

__all__ = ["BadRequest", "EventWriter", "GatewayRequest", "ReplyHead", "ToolChoice", "WireFormat"]

ToolChoice: TypeAlias = Literal["auto", "none", "required"]


class BadRequest(ValueError):
    """A request that cannot be served; the message says what is wrong and how to mend it."""

    def __init__(self, message: str, parameter: str | None = None) -> None:
        """Keep the dotted path of the parameter at fault."""
        super().__init__(message)
        self.parameter = parameter


@dataclass(frozen=True, kw_only=True)
class GatewayRequest:
    """One request, whichever API it came by."""

    model: str
    messages: tuple[ChatMessage, ...]
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: ToolChoice = "auto"
    max_tokens: int | None = None
    temperature: float | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False
    stream_usage: bool = False
    """Whether the last event tells the usage."""
    logprobs: bool = False
    """Whether log-probabilities and token ids of the reply are asked for."""
    previous: str | None = None
    """The id of the answer that this request goes on from, where the API keeps conversations itself."""


@dataclass(frozen=True, kw_only=True)
class ReplyHead:
    """What an answer says of itself."""

    id: str
    model: str
    created: int
    """Seconds since the epoch."""


class EventWriter(Protocol):
    """Writes one streamed answer as server-sent events."""

    def start(self) -> bytes:
        """Return the events before any text."""
        ...

    def text(self, piece: str) -> bytes:
        """Return the events for a piece of content."""
        ...

    def finish(self, reply: ChatReply) -> bytes:
        """Return all events that are left: content that no piece held, thinking, calls, stop reason, usage, the end."""
        ...

    def fail(self, status: int, kind: str, message: str) -> bytes:
        """Return the events of an answer that broke off."""
        ...


class WireFormat(Protocol):
    """One API."""

    @property
    def name(self) -> str:
        """Return a short name for records: chat-completions, responses or messages."""
        ...

    @property
    def path(self) -> str:
        """Return where requests are sent."""
        ...

    def read(self, body: JSONObject, headers: Mapping[str, str]) -> GatewayRequest:
        """Return what a request asks for; raise `BadRequest` for what cannot be served. Unknown fields are ignored."""
        ...

    def secret(self, headers: Mapping[str, str]) -> str | None:
        """Return the secret that the client sent, wherever this API's clients put it. Header names are lower-case."""
        ...

    def write(self, reply: ChatReply, request: GatewayRequest, head: ReplyHead) -> JSONObject:
        """Return the answer."""
        ...

    def events(self, request: GatewayRequest, head: ReplyHead) -> EventWriter:
        """Return what writes the answer as events."""
        ...

    def error(self, status: int, kind: str, message: str, parameter: str | None = None) -> JSONObject:
        """Return the API's own error body."""
        ...
