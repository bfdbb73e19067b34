"""Anthropic's Messages API, `/v1/messages`: what Claude Code and its kin speak."""

from collections.abc import Mapping

from tumbler.contracts.chat import ChatCall, ChatReply
from tumbler.contracts.values import JSON, JSONObject
from tumbler.dialects.json_text import write_json
from tumbler_backends.gateway.wire.format import GatewayRequest, ReplyHead
from tumbler_backends.gateway.wire.message_requests import read_messages_request
from tumbler_backends.gateway.wire.replies import Streamed, ending, shown
from tumbler_backends.gateway.wire.server_sent import bearer, event

__all__ = ["Messages", "MessagesEvents"]

_STOP: Mapping[str, str] = {"stop": "end_turn", "calls": "tool_use", "length": "max_tokens"}
_TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_FAULT_OF_SERVER = 500
_UNSTOPPED: JSONObject = {"stop_reason": None, "stop_sequence": None}


class Messages:
    """The Messages API."""

    @property
    def name(self) -> str:
        """Return `messages`."""
        return "messages"

    @property
    def path(self) -> str:
        """Return where requests are sent; tokens are counted below it, at `/count_tokens`."""
        return "/v1/messages"

    def read(self, body: JSONObject, headers: Mapping[str, str]) -> GatewayRequest:
        """Return what a request asks for; one to count tokens has the same fields."""
        return read_messages_request(body)

    def secret(self, headers: Mapping[str, str]) -> str | None:
        """Return the API key, or the bearer token."""
        return headers.get("x-api-key", "").strip() or bearer(headers)

    def write(self, reply: ChatReply, request: GatewayRequest, head: ReplyHead) -> JSONObject:
        """Return the answer."""
        message = shown(reply.message)
        content: list[JSON] = []
        if message.thinking:
            content.append({"type": "thinking", "thinking": message.thinking, "signature": head.id})
        if message.content:
            content.append({"type": "text", "text": message.content})
        content += [_call(call) | {"input": dict(call.arguments)} for call in message.calls]
        return _message(head, content, _stopped(reply), _usage(reply))

    def count(self, tokens: int) -> JSONObject:
        """Return the answer to a request to count tokens."""
        return {"input_tokens": tokens}

    def events(self, request: GatewayRequest, head: ReplyHead) -> "MessagesEvents":
        """Return what writes the answer as events."""
        return MessagesEvents(head)

    def error(self, status: int, kind: str, message: str, parameter: str | None = None) -> JSONObject:
        """Return an error body; its message names the parameter, as the API has no field for it."""
        general = "api_error" if status >= _FAULT_OF_SERVER else "invalid_request_error"
        type_ = kind if kind in _TYPES.values() else _TYPES.get(status, general)
        return {"type": "error", "error": {"type": type_, "message": message}}


class MessagesEvents:
    """Writes one answer as events: blocks, one after the other."""

    def __init__(self, head: ReplyHead) -> None:
        """Start before the first block."""
        self._head = head
        self._content = Streamed()
        self._blocks = 0
        self._text_open = False

    def start(self) -> bytes:
        """Return the message without its blocks; the prompt's tokens are told at the end, when they are known."""
        usage: JSONObject = {"input_tokens": 0, "output_tokens": 0}
        return event({"type": "message_start", "message": _message(self._head, [], _UNSTOPPED, usage)})

    def text(self, piece: str) -> bytes:
        """Return the events of a piece of content."""
        self._content.add(piece)
        opening = b"" if self._text_open else self._open({"type": "text", "text": ""})
        self._text_open = True
        return opening + self._delta({"type": "text_delta", "text": piece})

    def finish(self, reply: ChatReply) -> bytes:
        """Return the blocks that are left, and the end. Thinking comes first, unless content has."""
        message = shown(reply.message)
        rest = self._content.rest(message.content)
        if self._text_open:
            events = [self.text(rest)] if rest else []
            events += [self._close(), *self._thinking(message.thinking)]
        else:
            events = self._thinking(message.thinking)
            events += [self.text(rest), self._close()] if rest else []
        for call in message.calls:
            events += self._call(call)
        events.append(event({"type": "message_delta", "delta": _stopped(reply), "usage": _usage(reply)}))
        return b"".join([*events, event({"type": "message_stop"})])

    def fail(self, status: int, kind: str, message: str) -> bytes:
        """Return the error that ends the stream."""
        return event(Messages().error(status, kind, message))

    def _thinking(self, thinking: str) -> list[bytes]:
        if not thinking:
            return []
        return [
            self._open({"type": "thinking", "thinking": "", "signature": ""}),
            self._delta({"type": "thinking_delta", "thinking": thinking}),
            self._delta({"type": "signature_delta", "signature": self._head.id}),
            self._close(),
        ]

    def _call(self, call: ChatCall) -> list[bytes]:
        return [
            self._open(_call(call) | {"input": {}}),
            self._delta({"type": "input_json_delta", "partial_json": write_json(call.arguments)}),
            self._close(),
        ]

    def _open(self, block: JSONObject) -> bytes:
        return event({"type": "content_block_start", "index": self._blocks, "content_block": block})

    def _delta(self, delta: JSONObject) -> bytes:
        return event({"type": "content_block_delta", "index": self._blocks, "delta": delta})

    def _close(self) -> bytes:
        self._blocks += 1
        return event({"type": "content_block_stop", "index": self._blocks - 1})


def _message(head: ReplyHead, content: list[JSON], stopped: JSONObject, usage: JSONObject) -> JSONObject:
    return {
        "id": head.id,
        "type": "message",
        "role": "assistant",
        "model": head.model,
        "content": content,
        **stopped,
        "usage": usage,
    }


def _stopped(reply: ChatReply) -> JSONObject:
    reason = _STOP[ending(reply)]
    if reason == "end_turn" and reply.stop_sequence is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": reply.stop_sequence}
    return {"stop_reason": reason, "stop_sequence": None}


def _call(call: ChatCall) -> dict[str, JSON]:
    return {"type": "tool_use", "id": call.id, "name": call.name}


def _usage(reply: ChatReply) -> JSONObject:
    """Return the tokens; those that were not computed again are no part of `input_tokens` in this API."""
    usage = reply.usage
    return {
        "input_tokens": max(usage.prompt - usage.cached, 0),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.completion,
    }
