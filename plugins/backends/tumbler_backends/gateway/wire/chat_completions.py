"""OpenAI's chat completions, `/v1/chat/completions`: what vLLM and most agents speak.

Thinking is in `reasoning_content`, and token ids in `token_ids` and `prompt_token_ids`, as vLLM has them.
"""

from collections.abc import Mapping

from tumbler.contracts.chat import ChatCall, ChatReply, Sampled
from tumbler.contracts.values import JSON, JSONObject
from tumbler.dialects.json_text import write_json
from tumbler_backends.gateway.wire.chat_requests import read_chat_request
from tumbler_backends.gateway.wire.format import GatewayRequest, ReplyHead
from tumbler_backends.gateway.wire.openai_errors import openai_error
from tumbler_backends.gateway.wire.replies import Streamed, ending, shown
from tumbler_backends.gateway.wire.server_sent import DONE, bearer, data

__all__ = ["ChatCompletions", "ChatEvents"]

_FINISH: Mapping[str, str] = {"stop": "stop", "calls": "tool_calls", "length": "length"}


class ChatCompletions:
    """The API of chat completions."""

    @property
    def name(self) -> str:
        """Return `chat-completions`."""
        return "chat-completions"

    @property
    def path(self) -> str:
        """Return where requests are sent."""
        return "/v1/chat/completions"

    def read(self, body: JSONObject, headers: Mapping[str, str]) -> GatewayRequest:
        """Return what a request asks for."""
        return read_chat_request(body)

    def secret(self, headers: Mapping[str, str]) -> str | None:
        """Return the bearer token."""
        return bearer(headers)

    def write(self, reply: ChatReply, request: GatewayRequest, head: ReplyHead) -> JSONObject:
        """Return the answer, with the reply's tokens where the request asks for log-probabilities."""
        told = reply.sampled if request.logprobs else None
        message = shown(reply.message)
        said: dict[str, JSON] = {"role": "assistant", "content": message.content or None, "refusal": None}
        if message.thinking:
            said["reasoning_content"] = message.thinking
        if message.calls:
            said["tool_calls"] = [_call(call) for call in message.calls]
        choice: dict[str, JSON] = {"index": 0, "message": said, **_ended(reply, told)}
        body: dict[str, JSON] = {
            "id": head.id,
            "object": "chat.completion",
            "created": head.created,
            "model": head.model,
            "choices": [choice],
            "usage": _usage(reply),
        }
        return body if told is None else body | {"prompt_token_ids": list(told.prompt_ids)}

    def events(self, request: GatewayRequest, head: ReplyHead) -> "ChatEvents":
        """Return what writes the answer as chunks."""
        return ChatEvents(request, head)

    def error(self, status: int, kind: str, message: str, parameter: str | None = None) -> JSONObject:
        """Return an error body."""
        return openai_error(status, kind, message, parameter)


class ChatEvents:
    """Writes one answer as chunks."""

    def __init__(self, request: GatewayRequest, head: ReplyHead) -> None:
        """Keep what each chunk says."""
        self._request = request
        self._head = head
        self._content = Streamed()

    def start(self) -> bytes:
        """Return the chunk that names the role."""
        return self._delta({"role": "assistant", "content": ""})

    def text(self, piece: str) -> bytes:
        """Return the chunk of a piece of content."""
        self._content.add(piece)
        return self._delta({"content": piece})

    def finish(self, reply: ChatReply) -> bytes:
        """Return the chunks that are left, and the end."""
        told = reply.sampled if self._request.logprobs else None
        message = shown(reply.message)
        chunks = [self._delta({"reasoning_content": message.thinking})] if message.thinking else []
        rest = self._content.rest(message.content)
        chunks += [self._delta({"content": rest})] if rest else []
        for index, call in enumerate(message.calls):
            chunks += self._call(index, call)
        more: JSONObject = {} if told is None else {"prompt_token_ids": list(told.prompt_ids)}
        chunks.append(self._chunk([{"index": 0, "delta": {}, **_ended(reply, told)}], more))
        if self._request.stream_usage:
            chunks.append(self._chunk([], {"usage": _usage(reply)}))
        return b"".join([*chunks, DONE])

    def fail(self, status: int, kind: str, message: str) -> bytes:
        """Return the error that ends the stream."""
        return data(openai_error(status, kind, message)) + DONE

    def _call(self, index: int, call: ChatCall) -> list[bytes]:
        """Return two chunks, as clients expect: who is called, then with what."""
        function, arguments = call.name, write_json(call.arguments)
        opened: JSONObject = {"id": call.id, "type": "function", "function": {"name": function, "arguments": ""}}
        return [
            self._delta({"tool_calls": [{"index": index, **opened}]}),
            self._delta({"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}),
        ]

    def _delta(self, delta: JSONObject) -> bytes:
        return self._chunk([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}], {})

    def _chunk(self, choices: list[JSONObject], more: JSONObject) -> bytes:
        usage: JSONObject = {"usage": None} if self._request.stream_usage else {}
        return data(
            {
                "id": self._head.id,
                "object": "chat.completion.chunk",
                "created": self._head.created,
                "model": self._head.model,
                "choices": choices,
                **usage,
                **more,
            }
        )


def _call(call: ChatCall) -> JSONObject:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": write_json(call.arguments)}}


def _ended(reply: ChatReply, sampled: Sampled | None) -> JSONObject:
    finish: JSONObject = {"finish_reason": _FINISH[ending(reply)]}
    if sampled is None:
        return {"logprobs": None, **finish}
    tokens: list[JSON] = [
        {"token": piece, "logprob": logprob, "bytes": list(piece.encode()), "top_logprobs": []}
        for piece, logprob in zip(sampled.pieces, sampled.logprobs, strict=True)
    ]
    return {"logprobs": {"content": tokens, "refusal": None}, "token_ids": list(sampled.ids), **finish}


def _usage(reply: ChatReply) -> JSONObject:
    usage = reply.usage
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
    }
