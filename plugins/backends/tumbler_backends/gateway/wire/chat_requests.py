"""Requests to OpenAI's chat completions, as conversations."""

from collections.abc import Mapping
from typing import Literal

from pydantic import JsonValue

from tumbler.contracts.chat import ChatMessage
from tumbler.contracts.values import JSONObject, Role, ToolSpec
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
from tumbler_backends.gateway.wire.parts import Content, text_of

__all__ = ["read_chat_request"]

_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}


class _CalledFunction(Body):
    name: str
    arguments: str | dict[str, JsonValue] | None = None


class _Call(Body):
    id: str
    function: _CalledFunction


class _Message(Body):
    role: str
    content: Content = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Function(Body):
    name: str
    description: str | None = None
    parameters: dict[str, JsonValue] | None = None


class _Tool(Body):
    type: str = "function"
    function: _Function | None = None


class _Name(Body):
    name: str


class _Named(Body):
    function: _Name | None = None


class _Allowed(Body):
    mode: Literal["auto", "required"] = "auto"
    tools: tuple[_Named, ...] = ()


class _Choice(Body):
    type: str
    function: _Name | None = None
    allowed_tools: _Allowed | None = None


class _ResponseFormat(Body):
    type: str = "text"


class _StreamOptions(Body):
    include_usage: bool | None = None


class _ChatBody(Body):
    model: str = ""
    messages: list[_Message]
    tools: list[_Tool] | None = None
    tool_choice: str | _Choice | None = None
    max_completion_tokens: int | None = Count
    max_tokens: int | None = Count
    temperature: float | None = Temperature
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    return_token_ids: bool | None = None
    response_format: _ResponseFormat | None = None
    modalities: list[str] | None = None
    functions: list[JsonValue] | None = None


def read_chat_request(body: JSONObject) -> GatewayRequest:
    """Return what the request asks for; raise `BadRequest` for what cannot be served."""
    read = parse(_ChatBody, body, messages=_Message, tools=_Tool)
    _refuse(read)
    offered = zip(items_of(body, "tools"), read.tools or (), strict=True)
    tools = tuple(noted(raw, _tool, _tool, tool, index) for index, (raw, tool) in enumerate(offered))
    choice, tools = _choice(read.tool_choice, tools)
    return GatewayRequest(
        model=read.model,
        messages=tuple(
            noted(raw, _message, _message, message, index)
            for index, (raw, message) in enumerate(zip(items_of(body, "messages"), read.messages, strict=True))
        ),
        tools=tools,
        tool_choice=choice,
        max_tokens=read.max_completion_tokens or read.max_tokens,
        temperature=read.temperature,
        stop=stops(read.stop),
        stream=bool(read.stream),
        stream_usage=bool(read.stream_options and read.stream_options.include_usage),
        logprobs=bool(read.logprobs or read.return_token_ids),
    )


def _refuse(body: _ChatBody) -> None:
    if not body.messages:
        raise BadRequest("messages: there must be at least one", "messages")
    if body.n is not None and body.n != 1:
        raise BadRequest(f"n: one reply is given to a request, not {body.n}; send the request again for more", "n")
    if body.top_logprobs:
        raise BadRequest(
            "top_logprobs: only the sampled tokens' log-probabilities are known; leave it out", "top_logprobs"
        )
    if body.response_format is not None and body.response_format.type != "text":
        raise BadRequest(
            f"response_format: {body.response_format.type!r} cannot be enforced; ask for it in words", "response_format"
        )
    if body.modalities is not None and set(body.modalities) != {"text"}:
        raise BadRequest("modalities: this model writes text only", "modalities")
    if body.functions:
        raise BadRequest("functions: send `tools` in their place", "functions")


def _message(message: _Message, index: int) -> ChatMessage:
    parameter = f"messages.{index}"
    if message.role not in _ROLES:
        raise BadRequest(f"{parameter}.role: {message.role!r} is none of {', '.join(_ROLES)}", f"{parameter}.role")
    role = _ROLES[message.role]
    content = text_of(message.content, f"{parameter}.content")
    if role == "tool" and not message.tool_call_id:
        raise BadRequest(f"{parameter}.tool_call_id: say which call this answers", f"{parameter}.tool_call_id")
    if role == "tool":
        return ChatMessage(role=role, content=content, call_id=message.tool_call_id)
    if role != "assistant":
        return ChatMessage(role=role, content=content)
    calls = [
        read_call(call_id=call.id, name=call.function.name, arguments=call.function.arguments)
        for call in message.tool_calls or []
    ]
    thinking = message.reasoning_content or message.reasoning or ""
    return ChatMessage(role=role, content=content, thinking=thinking, calls=tuple(calls))


def _tool(tool: _Tool, index: int) -> ToolSpec:
    if tool.type != "function" or tool.function is None:
        raise BadRequest(f"tools.{index}: only functions can be called, not {tool.type!r}", f"tools.{index}")
    function = tool.function
    return ToolSpec(name=function.name, description=function.description or "", parameters=function.parameters or {})


def _choice(choice: str | _Choice | None, tools: tuple[ToolSpec, ...]) -> tuple[ToolChoice, tuple[ToolSpec, ...]]:
    """Return the choice and the tools that it leaves. A choice of one tool is of that alone."""
    match choice:
        case None | "auto":
            return "auto", tools
        case "none":
            return "none", tools
        case "required":
            return "required", tools
        case _Choice(type="function", function=_Name(name=name)):
            return "required", named_tools(tools, [name], "tool_choice")
        case _Choice(type="allowed_tools", allowed_tools=_Allowed(mode=mode, tools=allowed)):
            names = [each.function.name for each in allowed if each.function is not None]
            return mode, named_tools(tools, names, "tool_choice")
        case _:
            raise BadRequest("tool_choice: send auto, none, required, a function or allowed_tools", "tool_choice")
