"""Requests to OpenAI's Responses API, as conversations.

Items of one reply, its reasoning, message and calls, become one message; the answers to its calls follow.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from pydantic import JsonValue

from tumbler.contracts.chat import ChatMessage
from tumbler.contracts.values import JSON, JSONObject, Role
from tumbler_backends.gateway.seen import noted
from tumbler_backends.gateway.wire.fields import Body, Count, Temperature, items_of, named_tools, parse, read_call
from tumbler_backends.gateway.wire.format import BadRequest, GatewayRequest, ToolChoice
from tumbler_backends.gateway.wire.parts import Content, Part, text_of
from tumbler_backends.gateway.wire.reasoning import open_reasoning
from tumbler_backends.gateway.wire.response_tools import FREE_TEXT, ClientTool, Tool, policy_name, read_tools

__all__ = ["ResponsesRequest", "read_responses_request"]

_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
_CALLS = ("function_call", "custom_tool_call")
_ANSWERS = ("function_call_output", "custom_tool_call_output")


@dataclass(frozen=True, kw_only=True)
class ResponsesRequest(GatewayRequest):
    """A request that came by this API."""

    client_tools: Mapping[str, ClientTool] = field(default_factory=lambda: MappingProxyType({}))
    """What the client calls its tools, and how it wants them called, by the names that the policy knows."""


class _Item(Body):
    """One item, of any type."""

    type: str = "message"
    role: str = ""
    content: Content = None
    call_id: str | None = None
    name: str = ""
    namespace: str | None = None
    arguments: str | dict[str, JsonValue] | None = None
    input: str = ""
    output: Content = None
    summary: list[Part] | None = None
    encrypted_content: str | None = None


class _Name(Body):
    name: str = ""


class _Choice(Body):
    type: str
    name: str = ""
    mode: Literal["auto", "required"] = "auto"
    tools: tuple[_Name, ...] = ()


class _Format(Body):
    type: str = "text"


class _Text(Body):
    format: _Format | None = None


class _ResponsesBody(Body):
    model: str = ""
    input: str | list[_Item] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    tools: list[Tool] | None = None
    tool_choice: str | _Choice | None = None
    max_output_tokens: int | None = Count
    temperature: float | None = Temperature
    stream: bool | None = None
    text: _Text | None = None
    background: bool | None = None
    conversation: JsonValue = None
    prompt: JsonValue = None


def read_responses_request(body: JSONObject) -> ResponsesRequest:
    """Return what the request asks for; raise `BadRequest` for what cannot be served."""
    read = parse(_ResponsesBody, body, input=_Item, tools=Tool)
    _refuse(read)
    offered = read_tools(read.tools or (), items_of(body, "tools"))
    request = ResponsesRequest(
        model=read.model,
        messages=tuple(_conversation(read, items_of(body, "input"))),
        tools=tuple(offered.specs),
        max_tokens=read.max_output_tokens,
        temperature=read.temperature,
        stream=bool(read.stream),
        stream_usage=True,
        previous=read.previous_response_id or None,
        client_tools=offered.client_tools,
    )
    return _choose(request, read.tool_choice)


def _refuse(body: _ResponsesBody) -> None:
    if not body.input and not body.previous_response_id:
        raise BadRequest("input: there must be some", "input")
    if body.background:
        raise BadRequest("background: answers are not kept for later; send background false", "background")
    for name in ("conversation", "prompt"):
        if getattr(body, name):
            raise BadRequest(f"{name}: nothing of the kind is kept here; send the items as `input`", name)
    if body.text and body.text.format and body.text.format.type != "text":
        raise BadRequest(
            f"text.format: {body.text.format.type!r} cannot be enforced; ask for it in words", "text.format"
        )


def _conversation(body: _ResponsesBody, items: Sequence[JSON]) -> Iterator[ChatMessage]:
    if body.instructions:
        yield ChatMessage(role="system", content=body.instructions)
    if isinstance(body.input, str):
        yield ChatMessage(role="user", content=body.input)
        return
    reply: ChatMessage | None = None
    for index, (raw, item) in enumerate(zip(items, body.input or (), strict=True)):
        said = noted(raw, _message, _message, item, index)
        # What an item is joined to is the same whenever it is seen again, for the same items come before it.
        joined = noted(raw, _join, _join, reply, said) if reply is not None and said.role == "assistant" else None
        if reply is not None and joined is None and _says_something(reply):
            yield reply
        reply = None
        if said.role == "assistant":
            reply = joined or said
        else:
            yield said
    if reply is not None and _says_something(reply):
        yield reply


def _says_something(reply: ChatMessage) -> bool:
    return bool(reply.content or reply.thinking or reply.calls)


def _join(reply: ChatMessage, said: ChatMessage) -> ChatMessage | None:
    """Return the reply with one more item of it, or None where the item begins another reply."""
    if said.calls:
        return replace(reply, calls=reply.calls + said.calls)
    if said.content and (reply.calls or not reply.content):
        # Calls must be followed by their answers, so that words after them belong to the same reply.
        return replace(reply, content="\n".join(text for text in (reply.content, said.content) if text))
    if said.thinking and not reply.content and not reply.calls:
        return replace(reply, thinking="\n".join(text for text in (reply.thinking, said.thinking) if text))
    return None


def _message(item: _Item, index: int) -> ChatMessage:
    parameter = f"input.{index}"
    if item.type == "message":
        return _said(item, parameter)
    if item.type == "reasoning":
        return ChatMessage(role="assistant", thinking=_thinking(item, parameter))
    if item.type not in (*_CALLS, *_ANSWERS):
        raise BadRequest(f"{parameter}.type: items of type {item.type!r} cannot be read here", f"{parameter}.type")
    if not item.call_id:
        raise BadRequest(f"{parameter}.call_id: say which call this is", f"{parameter}.call_id")
    if item.type in _ANSWERS:
        return ChatMessage(role="tool", content=text_of(item.output, f"{parameter}.output"), call_id=item.call_id)
    arguments = item.arguments if item.type == "function_call" else {FREE_TEXT: item.input}
    name = policy_name(item.name, item.namespace)
    return ChatMessage(role="assistant", calls=(read_call(call_id=item.call_id, name=name, arguments=arguments),))


def _said(item: _Item, parameter: str) -> ChatMessage:
    if item.role not in _ROLES:
        raise BadRequest(f"{parameter}.role: {item.role!r} is none of {', '.join(_ROLES)}", f"{parameter}.role")
    return ChatMessage(role=_ROLES[item.role], content=text_of(item.content, f"{parameter}.content"))


def _thinking(item: _Item, parameter: str) -> str:
    """Return the thoughts, from wherever the client has kept them."""
    return (
        text_of(item.content, f"{parameter}.content")
        or open_reasoning(item.encrypted_content)
        or text_of(item.summary, f"{parameter}.summary")
    )


def _choose(request: ResponsesRequest, choice: str | _Choice | None) -> ResponsesRequest:
    """Return the request with its choice, and the tools that this leaves. A choice of one tool is of that alone."""
    if isinstance(choice, str) or choice is None:
        return replace(request, tool_choice=_plain_choice(choice or "auto"))
    if choice.type in ("function", "custom"):
        return _narrow(request, "required", [choice.name])
    if choice.type == "allowed_tools":
        return _narrow(request, choice.mode, [tool.name for tool in choice.tools])
    raise BadRequest(f"tool_choice: {choice.type!r} cannot be chosen here", "tool_choice")


def _plain_choice(choice: str) -> ToolChoice:
    match choice:
        case "auto" | "none" | "required":
            return choice
        case _:
            raise BadRequest(f"tool_choice: {choice!r} is none of auto, none, required", "tool_choice")


def _narrow(request: ResponsesRequest, choice: ToolChoice, names: Sequence[str]) -> ResponsesRequest:
    return replace(request, tool_choice=choice, tools=named_tools(request.tools, names, "tool_choice"))
