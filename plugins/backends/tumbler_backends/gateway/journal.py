"""Calls in a file, one JSON object a line; knows no API."""

from pathlib import Path
from typing import TypeAlias, cast

from tumbler.config import Settings
from tumbler.contracts.chat import ChatCall, ChatMessage, ChatReply, Sampled, StopReason, Usage
from tumbler.contracts.values import JSONObject
from tumbler_backends.gateway.answering import Call
from tumbler_backends.gateway.failures import Refused

__all__ = ["Journal", "Line"]

_Object: TypeAlias = dict[str, object]


class _Call(Settings):
    id: str
    name: str
    arguments: _Object
    problem: str | None = None


class _Sampled(Settings):
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    pieces: tuple[str, ...]

    @classmethod
    def of(cls, sampled: Sampled) -> "_Sampled":
        """Return the form that tokens have in the file. They are many, and neither copied nor looked at one by one."""
        return cls.model_construct(
            prompt_ids=sampled.prompt_ids, ids=sampled.ids, logprobs=sampled.logprobs, pieces=sampled.pieces
        )


class _Reply(Settings):
    """A reply as it stands in the file."""

    content: str = ""
    thinking: str = ""
    calls: tuple[_Call, ...] = ()
    stop: StopReason
    text: str
    """The words as sampled."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    chunk: int | None = None
    sampled: _Sampled | None = None
    stop_sequence: str | None = None

    @classmethod
    def of(cls, reply: ChatReply) -> "_Reply":
        """Return the form that a reply has in the file."""
        calls = [
            _Call(id=call.id, name=call.name, arguments=dict(call.arguments), problem=call.problem)
            for call in reply.message.calls
        ]
        return cls(
            content=reply.message.content,
            thinking=reply.message.thinking,
            calls=tuple(calls),
            stop=reply.stop,
            text=reply.text,
            prompt_tokens=reply.usage.prompt,
            completion_tokens=reply.usage.completion,
            cached_tokens=reply.usage.cached,
            chunk=reply.chunk,
            sampled=None if reply.sampled is None else _Sampled.of(reply.sampled),
            stop_sequence=reply.stop_sequence,
        )

    def reply(self) -> ChatReply:
        """Return the reply."""
        calls = tuple(
            ChatCall(id=call.id, name=call.name, arguments=cast("JSONObject", call.arguments), problem=call.problem)
            for call in self.calls
        )
        message = ChatMessage(role="assistant", content=self.content, thinking=self.thinking, calls=calls)
        usage = Usage(prompt=self.prompt_tokens, completion=self.completion_tokens, cached=self.cached_tokens)
        sampled = None if self.sampled is None else Sampled(**dict(self.sampled))
        return ChatReply(
            message=message,
            stop=self.stop,
            text=self.text,
            usage=usage,
            chunk=self.chunk,
            sampled=sampled,
            stop_sequence=self.stop_sequence,
        )


class _Error(Settings):
    kind: str
    message: str
    parameter: str | None = None


class Line(Settings):
    """One call: what was asked, and what was answered."""

    session: str
    number: int
    api: str
    body: _Object
    status: int
    reply: _Reply | None = None
    error: _Error | None = None


class Journal:
    """Appends calls to a file. Each line is written at once and whole."""

    def __init__(self, path: Path) -> None:
        """Write to `path`; its folder is made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")

    def write(self, session: str, call: Call, outcome: ChatReply | Refused) -> None:
        """Append one call."""
        refused = outcome if isinstance(outcome, Refused) else None
        line = Line(
            session=session,
            number=call.number,
            api=call.api,
            body=dict(call.body),
            status=200 if refused is None else refused.status,
            reply=None if isinstance(outcome, Refused) else _Reply.of(outcome),
            error=None
            if refused is None
            else _Error(kind=refused.kind, message=refused.message, parameter=refused.parameter),
        )
        self._file.write(line.model_dump_json(exclude_defaults=True) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
