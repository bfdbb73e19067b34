"""Structured conversations as bodies of requests to a chat-completions API; knows no server."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from tumbler.contracts.chat import ChatCall, ChatMessage
from tumbler.contracts.values import JSON, JSONObject, ToolSpec

__all__ = ["Wanted", "write_request"]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """How the reply is wanted; None leaves a setting to the server."""

    max_tokens: int | None = None
    temperature: float | None = None
    stop: Sequence[str] = ()
    stream: bool = False


def write_request(
    model: str, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec], wanted: Wanted
) -> dict[str, JSON]:
    """Return the body. What is not asked for is left out, since not every server takes every field."""
    body: dict[str, JSON] = {"model": model, "messages": [_message(message) for message in messages]}
    if tools:
        body["tools"] = [_tool(tool) for tool in tools]
    if wanted.max_tokens is not None:
        body["max_tokens"] = wanted.max_tokens
    if wanted.temperature is not None:
        body["temperature"] = wanted.temperature
    if wanted.stop:
        body["stop"] = list(wanted.stop)
    if wanted.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body


def _message(message: ChatMessage) -> JSONObject:
    written: dict[str, JSON] = {"role": message.role, "content": message.content}
    if message.thinking:
        written["reasoning_content"] = message.thinking
    if message.calls:
        written["tool_calls"] = [_call(call) for call in message.calls]
    if message.role == "tool":
        written["tool_call_id"] = message.call_id or ""
    return written


def _call(call: ChatCall) -> JSONObject:
    arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _tool(tool: ToolSpec) -> JSONObject:
    parameters = tool.parameters or {"type": "object", "properties": {}}
    function: JSONObject = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {"type": "function", "function": function}
