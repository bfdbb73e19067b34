"""Tools of the Responses API: functions, tools that take free text, and namespaces of both.

A policy knows functions with JSON arguments only: free text is an argument, and a namespace is part of the name.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import JsonValue

from tumbler.contracts.chat import ChatCall
from tumbler.contracts.values import JSON, JSONObject, ToolSpec
from tumbler.dialects.json_text import write_json
from tumbler_backends.gateway.seen import noted
from tumbler_backends.gateway.wire.fields import Body
from tumbler_backends.gateway.wire.format import BadRequest

__all__ = ["FREE_TEXT", "ClientTool", "Offered", "Tool", "call_item", "policy_name", "read_tools", "tool_items"]

FREE_TEXT = "input"
"""The argument that holds free text."""
_HOSTED = ("web_search", "file_search", "code_interpreter", "image_generation", "mcp", "tool_search", "programmatic")
"""Tools that OpenAI's servers carry out, by the beginnings of their types; the policy is not offered them."""


class Tool(Body):
    """A tool, or a namespace of some, as a client sends it."""

    type: str
    name: str = ""
    description: str | None = None
    parameters: dict[str, JsonValue] | None = None
    tools: "tuple[Tool, ...]" = ()


@dataclass(frozen=True, kw_only=True)
class ClientTool:
    """What a client calls a tool of its own."""

    kind: Literal["function", "custom"]
    name: str
    namespace: str | None = None


@dataclass(frozen=True, kw_only=True)
class Offered:
    """The tools of a request."""

    specs: Sequence[ToolSpec]
    client_tools: Mapping[str, ClientTool]
    """By the names that the policy knows."""


def policy_name(name: str, namespace: str | None) -> str:
    """Return the name by which the policy knows a tool."""
    if not namespace:
        return name
    return f"{namespace}{name}" if namespace.endswith("__") else f"{namespace}__{name}"


def read_tools(tools: Sequence[Tool], items: Sequence[JSON]) -> Offered:
    """Return what the policy is offered; raise `BadRequest` for a tool that it cannot call.

    `items` are the tools as they came: those that were seen before are not read again.
    """
    offered = enumerate(zip(items, tools, strict=True))
    found = [pair for index, (raw, tool) in offered for pair in noted(raw, _pairs, _pairs, tool, index)]
    return Offered(specs=[spec for spec, _ in found], client_tools={spec.name: tool for spec, tool in found})


def call_item(call: ChatCall, tools: Mapping[str, ClientTool], *, status: str) -> dict[str, JSON]:
    """Return a call as the client wants it."""
    tool = tools.get(call.name, ClientTool(kind="function", name=call.name))
    item: dict[str, JSON] = {"id": f"fc_{call.id}", "call_id": call.id, "name": tool.name, "status": status}
    if tool.namespace is not None:
        item["namespace"] = tool.namespace
    if tool.kind == "custom":
        return {"type": "custom_tool_call", "input": _free_text(call.arguments), **item}
    return {"type": "function_call", "arguments": write_json(call.arguments), **item}


def tool_items(specs: Sequence[ToolSpec], tools: Mapping[str, ClientTool]) -> list[JSON]:
    """Return the tools as an answer repeats them."""
    items: list[JSON] = []
    for spec in specs:
        tool = tools.get(spec.name)
        if tool is not None and tool.kind == "custom":
            items.append({"type": "custom", "name": spec.name, "description": spec.description})
            continue
        items.append(
            {
                "type": "function",
                "name": spec.name,
                "description": spec.description,
                "parameters": dict(spec.parameters),
                "strict": False,
            }
        )
    return items


def _pairs(tool: Tool, index: int) -> Sequence[tuple[ToolSpec, ClientTool]]:
    return tuple(_read(tool, None, f"tools.{index}"))


def _read(tool: Tool, namespace: str | None, parameter: str) -> Iterator[tuple[ToolSpec, ClientTool]]:
    if tool.type == "namespace" and namespace is None:
        for index, inner in enumerate(tool.tools):
            yield from _read(inner, tool.name, f"{parameter}.tools.{index}")
    elif tool.type in ("function", "custom") and tool.name:
        kind: Literal["function", "custom"] = "custom" if tool.type == "custom" else "function"
        parameters = _FREE_TEXT_ONLY if kind == "custom" else tool.parameters or {}
        name = policy_name(tool.name, namespace)
        spec = ToolSpec(name=name, description=tool.description or "", parameters=parameters)
        yield spec, ClientTool(kind=kind, name=tool.name, namespace=namespace)
    elif not tool.type.startswith(_HOSTED):
        raise BadRequest(f"{parameter}: {tool.type!r} cannot be called here; offer it as a function", parameter)


def _free_text(arguments: JSONObject) -> str:
    """Return the free text of a call, or whatever else the policy put in its place."""
    text = arguments.get(FREE_TEXT)
    return text if isinstance(text, str) and len(arguments) == 1 else write_json(arguments)


_FREE_TEXT_ONLY: JSONObject = {
    "type": "object",
    "properties": {FREE_TEXT: {"type": "string"}},
    "required": [FREE_TEXT],
}
