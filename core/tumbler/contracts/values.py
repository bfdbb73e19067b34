"""Plain values that cross every border: JSON, messages, tools."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

__all__ = ["JSON", "JSONObject", "Message", "Role", "ToolCall", "ToolSpec"]

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
JSONObject: TypeAlias = Mapping[str, JSON]

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message of a conversation, as a chat template sees it."""

    role: Role
    content: str


@dataclass(frozen=True, kw_only=True)
class ToolSpec:
    """A tool that the environment offers: its name, what it does, its arguments as JSON Schema."""

    name: str
    description: str
    parameters: JSONObject = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """One call of a tool: one interaction with the environment."""

    name: str
    arguments: JSONObject = field(default_factory=dict)
