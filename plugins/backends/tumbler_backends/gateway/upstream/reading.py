"""Answers of a chat-completions API as replies, whole or put together from events; lenient about what servers omit."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tumbler.contracts.chat import ChatCall, ChatMessage, ChatReply, OnText, StopReason, Usage
from tumbler.contracts.values import JSON, JSONObject
from tumbler.dialects.json_text import read_json, read_object
from tumbler.errors import InferenceError

__all__ = ["Assembly", "read_events", "read_reply"]

_STOPS: Final[Mapping[str, StopReason]] = {"length": "length", "abort": "abort"}
"""Other reasons are `calls` where there are calls, else `stop`."""


@dataclass
class _Parts:
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass
class Assembly:
    """A reply in the making."""

    content: str = ""
    thinking: str = ""
    finish: str = ""
    usage: Usage = field(default_factory=Usage)
    _calls: dict[int, _Parts] = field(default_factory=dict)

    def add(self, event: JSONObject) -> str:
        """Take an event in; return the content that it brings."""
        if isinstance(error := event.get("error"), Mapping):
            raise InferenceError(f"the server broke off: {error.get('message', error)}")
        if isinstance(usage := event.get("usage"), Mapping):
            self.usage = _usage(usage)
        choice = _first(event.get("choices"))
        self.finish = _text(choice.get("finish_reason")) or self.finish
        return self._say(_mapping(choice.get("delta")))

    def _say(self, delta: JSONObject) -> str:
        piece = _text(delta.get("content"))
        self.content += piece
        self.thinking += _text(delta.get("reasoning_content")) or _text(delta.get("reasoning"))
        for each in _sequence(delta.get("tool_calls")):
            self._add_call(_mapping(each))
        return piece

    def _add_call(self, part: JSONObject) -> None:
        index = part.get("index")
        if not isinstance(index, int):
            # Servers that send no index send each call whole, or its parts one after the other.
            index = len(self._calls) if part.get("id") or not self._calls else max(self._calls)
        parts = self._calls.setdefault(index, _Parts())
        function = _mapping(part.get("function"))
        parts.id = _text(part.get("id")) or parts.id
        parts.name += _text(function.get("name"))
        arguments = function.get("arguments")
        if isinstance(arguments, Mapping):
            raise InferenceError("the server gives a call's arguments as an object; they must be a string of JSON")
        parts.arguments += _text(arguments)

    def reply(self) -> ChatReply:
        """Return what was said."""
        calls = tuple(_call(number, parts) for number, (_, parts) in enumerate(sorted(self._calls.items())))
        message = ChatMessage(role="assistant", content=self.content, thinking=self.thinking, calls=calls)
        stop: StopReason = _STOPS.get(self.finish, "calls" if calls else "stop")
        return ChatReply(message=message, stop=stop, text=self.content, usage=self.usage)


def read_reply(body: JSON) -> ChatReply:
    """Return the reply of a whole answer."""
    answer = _mapping(body)
    choice = _first(answer.get("choices"))
    if "message" not in choice:
        raise InferenceError("the server's answer has no choices[0].message; is its base_url that of a chat API?")
    assembly = Assembly()
    assembly.add({"choices": [{"delta": choice["message"], "finish_reason": choice.get("finish_reason")}]})
    assembly.usage = _usage(_mapping(answer.get("usage")))
    return assembly.reply()


async def read_events(stream: AsyncIterator[bytes], on_text: OnText) -> ChatReply:
    """Return the reply that comes as server-sent events, and tell `on_text` each piece."""
    assembly = Assembly()
    ended = False
    async for data in _data(stream):
        if data == "[DONE]":
            ended = True
            break
        try:
            event = read_json(data)
        except ValueError as error:
            raise InferenceError(f"the server sent an event that is not JSON: {error}: {data[:200]!r}") from error
        if piece := assembly.add(_mapping(event)):
            await on_text(piece)
    if not ended and not assembly.finish:
        raise InferenceError("the server broke off before the reply was over")
    return assembly.reply()


async def _data(stream: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """Yield the data of each event. Lines end where bytes say so: text may hold U+2028, which ends none."""
    rest = b""
    async for block in stream:
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line.removeprefix(b"data:").strip().decode(errors="replace")
    if rest.startswith(b"data:"):
        yield rest.removeprefix(b"data:").strip().decode(errors="replace")


def _call(number: int, parts: _Parts) -> ChatCall:
    identity = parts.id or f"call_{number}"
    try:
        return ChatCall(id=identity, name=parts.name, arguments=read_object(parts.arguments))
    except ValueError as error:
        problem = f"the arguments of {parts.name} cannot be read: {error}"
        return ChatCall(id=identity, name=parts.name, arguments={}, problem=problem)


def _usage(usage: JSONObject) -> Usage:
    details = _mapping(usage.get("prompt_tokens_details"))
    return Usage(
        prompt=_count(usage.get("prompt_tokens")),
        completion=_count(usage.get("completion_tokens")),
        cached=_count(details.get("cached_tokens")),
    )


def _first(value: JSON) -> JSONObject:
    items = _sequence(value)
    return _mapping(items[0]) if items else {}


def _mapping(value: JSON) -> JSONObject:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: JSON) -> Sequence[JSON]:
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()


def _text(value: JSON) -> str:
    return value if isinstance(value, str) else ""


def _count(value: JSON) -> int:
    return value if isinstance(value, int) else 0
