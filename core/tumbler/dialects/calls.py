"""What a decoded call of a policy says: a name and arguments, or what is wrong with it; knows no syntax around it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tumbler.contracts.chat import ChatCall
from tumbler.contracts.values import JSON, JSONObject
from tumbler.dialects.json_text import read_object

__all__ = ["Found", "name_calls", "understand"]


@dataclass(frozen=True, kw_only=True)
class Found:
    """A call that has no id yet."""

    name: str = ""
    arguments: JSONObject = field(default_factory=dict)
    problem: str | None = None


def understand(value: JSON) -> list[Found]:
    """Return the calls that a JSON value makes: an object makes one, a list those of its items."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_call(each) for each in value] or [Found(problem="an empty list is no call")]
    return [_call(value)]


def name_calls(found: Iterable[Found], prefix: str) -> tuple[ChatCall, ...]:
    """Return the calls with ids of their own."""
    return tuple(
        ChatCall(id=f"{prefix}{index}", name=each.name, arguments=each.arguments, problem=each.problem)
        for index, each in enumerate(found)
    )


def _call(value: JSON) -> Found:
    if not isinstance(value, Mapping):
        return Found(problem='a call is a JSON object: {"name": …, "arguments": {…}}')
    name = value.get("name")
    if not isinstance(name, str) or not name:
        return Found(problem='a call needs the "name" of a tool, as a string')
    if "arguments" not in value and len(value) > 1:
        others = ", ".join(repr(key) for key in list(value)[:5] if key != "name")
        return Found(name=name, problem=f'the call of {name} has no "arguments", but {others}')
    arguments = value.get("arguments")
    try:
        return Found(name=name, arguments=_arguments(arguments))
    except ValueError as error:
        return Found(name=name, problem=f"the arguments of {name} cannot be read: {error}")


def _arguments(value: JSON) -> JSONObject:
    if value is None:
        return {}
    if isinstance(value, str):
        return read_object(value)
    if not isinstance(value, Mapping):
        raise ValueError("they must be a JSON object")
    return value
