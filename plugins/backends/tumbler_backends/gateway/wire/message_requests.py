"""Requests to Anthropic's Messages API, as conversations."""

import re
from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import JsonValue

from tumbler.contracts.chat import ChatMessage
from tumbler.contracts.values import JSON, JSONObject, ToolSpec
from tumbler_backends.gateway.seen import noted
from tumbler_backends.gateway.wire.fields import (
    Body,
    Count,
    Temperature,
    items_of,
    named_tools,
    parse,
    read_call,
    stops,
)
from tumbler_backends.gateway.wire.format import BadRequest, GatewayRequest, ToolChoice
from tumbler_backends.gateway.wire.parts import Content, Part, text_of

__all__ = ["read_messages_request"]

_BILLING = re.compile(r"\Ax-anthropic-billing-header:[^\n]*\n?")
"""What Claude Code writes before its system prompt: it differs with each request, so that no prompt would extend
the last one."""
_HOSTED = ("web_search_", "web_fetch_", "code_execution_", "tool_search_")
"""Tools that Anthropic's servers carry out, by the beginnings of their types."""


class _Block(Part):
    """One block of a content, of any type; those of calls and results have fields of their own."""

    id: str = ""
    name: str = ""
    input: dict[str, JsonValue] | None = None
    thinking: str = ""
    tool_use_id: str | None = None
    is_error: bool | None = None


class _Message(Body):
    role: Literal["user", "assistant", "system"]
    content: str | list[_Block]


class _Tool(Body):
    name: str
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, JsonValue] | None = None


class _Choice(Body):
    type: Literal["auto", "any", "tool", "none"]
    name: str = ""


class _Format(Body):
    type: str


class _OutputConfig(Body):
    format: _Format | None = None


class _MessagesBody(Body):
    model: str = ""
    system: Content = None
    messages: list[_Message]
    tools: list[_Tool] | None = None
    tool_choice: _Choice | None = None
    max_tokens: int | None = Count
    temperature: float | None = Temperature
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    output_config: _OutputConfig | None = None
    output_format: _Format | None = None


def read_messages_request(body: JSONObject) -> GatewayRequest:
    """Return what the request asks for; raise `BadRequest` for what cannot be served."""
    read = parse(_MessagesBody, body, messages=_Message, tools=_Tool)
    _refuse(read)
    offered = zip(items_of(body, "tools"), read.tools or (), strict=True)
    tools = tuple(spec for index, (raw, tool) in enumerate(offered) for spec in noted(raw, _tool, _tool, tool, index))
    choice, tools = _choice(read.tool_choice, tools)
    return GatewayRequest(
        model=read.model,
        messages=tuple(_conversation(read, items_of(body, "messages"))),
        tools=tools,
        tool_choice=choice,
        max_tokens=read.max_tokens,
        temperature=read.temperature,
        stop=stops(read.stop_sequences),
        stream=bool(read.stream),
        stream_usage=True,
    )


def _refuse(body: _MessagesBody) -> None:
    if not body.messages:
        raise BadRequest("messages: there must be at least one", "messages")
    if body.messages[-1].role == "assistant":
        raise BadRequest(
            "messages: the last one is the assistant's; this model does not go on from its words", "messages"
        )
    wanted = body.output_format or (body.output_config and body.output_config.format)
    if wanted:
        raise BadRequest(
            f"output_config.format: {wanted.type!r} cannot be enforced; ask for it in words", "output_config"
        )


def _conversation(body: _MessagesBody, items: Sequence[JSON]) -> Iterator[ChatMessage]:
    system = _system(body.system)
    if system:
        yield ChatMessage(role="system", content=system)
    for index, (raw, message) in enumerate(zip(items, body.messages, strict=True)):
        yield from noted(raw, _said, _said, message, index)


def _said(message: _Message, index: int) -> tuple[ChatMessage, ...]:
    parameter = f"messages.{index}.content"
    if message.role == "assistant":
        return (_assistant(message.content, parameter),)
    if isinstance(message.content, str):
        return (ChatMessage(role=message.role, content=message.content),)
    if message.role == "system":
        return (ChatMessage(role="system", content=text_of(message.content, parameter)),)
    return tuple(_user(message.content, parameter))


def _system(content: str | Sequence[Part] | None) -> str:
    if isinstance(content, str):
        return _BILLING.sub("", content)
    texts = (_BILLING.sub("", text_of([part], "system")) for part in content or ())
    return "\n".join(text for text in texts if text)


def _user(blocks: Sequence[_Block], parameter: str) -> Iterator[ChatMessage]:
    """Yield the results of calls, then what the user says: that comes after them, wherever it stands."""
    said: list[_Block] = []
    for index, block in enumerate(blocks):
        if block.type != "tool_result":
            said.append(block)
            continue
        if not block.tool_use_id:
            raise BadRequest(f"{parameter}.{index}.tool_use_id: say which call this answers", f"{parameter}.{index}")
        result = text_of(block.content, f"{parameter}.{index}.content")
        yield ChatMessage(role="tool", content=result or _silent(block), call_id=block.tool_use_id)
    if said or not blocks:
        yield ChatMessage(role="user", content=text_of(said, parameter))


def _silent(result: _Block) -> str:
    return "error" if result.is_error else ""


def _assistant(content: str | Sequence[_Block], parameter: str) -> ChatMessage:
    if isinstance(content, str):
        return ChatMessage(role="assistant", content=content)
    said = [each for each in content if each.type not in ("thinking", "redacted_thinking", "tool_use")]
    thoughts = [each.thinking for each in content if each.type == "thinking" and each.thinking]
    calls = [
        read_call(call_id=each.id, name=each.name, arguments=each.input) for each in content if each.type == "tool_use"
    ]
    return ChatMessage(
        role="assistant", content=text_of(said, parameter), thinking="\n".join(thoughts), calls=tuple(calls)
    )


def _tool(tool: _Tool, index: int) -> tuple[ToolSpec, ...]:
    """Return a tool of the client's. Those of Anthropic's servers are left out: the policy is not offered them."""
    if tool.input_schema is not None:
        return (ToolSpec(name=tool.name, description=tool.description or "", parameters=tool.input_schema),)
    if not (tool.type or "").startswith(_HOSTED):
        raise BadRequest(f"tools.{index}: {tool.name!r} needs an input_schema", f"tools.{index}.input_schema")
    return ()


def _choice(choice: _Choice | None, tools: tuple[ToolSpec, ...]) -> tuple[ToolChoice, tuple[ToolSpec, ...]]:
    """Return the choice and the tools that it leaves. A choice of one tool is of that alone."""
    if choice is None or choice.type == "auto":
        return "auto", tools
    if choice.type == "none":
        return "none", tools
    if choice.type == "any":
        return "required", tools
    return "required", named_tools(tools, [choice.name], "tool_choice")
