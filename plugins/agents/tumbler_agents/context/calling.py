"""What the tools of strategies share: their names in settings, and arguments that are checked; knows no strategy."""

from typing import Annotated, TypeAlias

from pydantic import Field

from tumbler.contracts.context import StrategyAnswer
from tumbler.contracts.values import JSONObject, ToolCall

__all__ = ["MalformedCall", "ToolName", "optional_text", "refused", "required_text", "text_parameters"]

ToolName: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")]
"""How a tool is called; change it where an environment has a tool of that name."""


class MalformedCall(ValueError):
    """A call whose arguments cannot be used; the message tells the policy how to mend it."""


def required_text(call: ToolCall, name: str) -> str:
    """Return an argument that must be a text with something in it, without the space around it."""
    text = optional_text(call, name)
    if not text:
        raise MalformedCall(f"{call.name} needs the argument {name}: a text that is not empty")
    return text


def optional_text(call: ToolCall, name: str) -> str:
    """Return an argument that may be left out, then ""; without the space around it."""
    value = call.arguments.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise MalformedCall(f"the argument {name} of {call.name} must be a text, not {type(value).__name__}")
    # A lone surrogate, which JSON can spell, is in no tokenizer's alphabet and in no file.
    return value.encode("utf-8", "replace").decode("utf-8").strip()


def refused(reason: object) -> StrategyAnswer:
    """Return the answer to a call that cannot be carried out."""
    return StrategyAnswer(text=f"error: {reason}", errored=True)


def text_parameters(required: tuple[str, ...], **described: str) -> JSONObject:
    """Return the JSON Schema of arguments that are texts: name → description."""
    return {
        "type": "object",
        "properties": {name: {"type": "string", "description": text} for name, text in described.items()},
        "required": list(required),
        "additionalProperties": False,
    }
