"""Bodies of requests as typed fields: what every chat API has in common; knows none of them.

Fields that are not declared are ignored: clients send many that change nothing here.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from tumbler.contracts.chat import ChatCall
from tumbler.contracts.values import JSON, JSONObject, ToolSpec
from tumbler.dialects.json_text import read_object
from tumbler_backends.gateway.seen import SeenObject
from tumbler_backends.gateway.wire.format import BadRequest

__all__ = ["Body", "Count", "Temperature", "items_of", "named_tools", "parse", "read_call", "stops"]

Count = Field(default=None, ge=1)
Temperature = Field(default=None, ge=0.0)

_BodyT = TypeVar("_BodyT", bound="Body")


class Body(BaseModel):
    """Part of a request."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def parse(kind: type[_BodyT], body: JSONObject, **lists: "type[Body]") -> _BodyT:
    """Return the body as typed fields; raise `BadRequest` for the first field that is wrong.

    `lists` names fields that hold lists, and the kind of their items: of those that were seen before, the typed fields
    are at hand.
    """
    known = {name: _typed(items, lists[name]) for name in lists if (items := items_of(body, name))}
    try:
        return kind.model_validate({**body, **known})
    except ValidationError as error:
        # Where a field may have one of several types, the deepest error is of the type that was meant.
        first = max(error.errors(include_url=False, include_context=False), key=lambda each: len(each["loc"]))
        path = ".".join(str(step) for step in first["loc"] if isinstance(step, int) or _is_field(step))
        raise BadRequest(f"{path}: {first['msg']}", path) from error


def items_of(body: JSONObject, name: str) -> Sequence[JSON]:
    """Return the items of a field that holds a list, as they came; none where it holds another value."""
    value = body.get(name)
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()


def read_call(*, call_id: str, name: str, arguments: str | Mapping[str, JsonValue] | None) -> ChatCall:
    """Return a call of a client's history, as an assistant once made it: also one with broken arguments."""
    if isinstance(arguments, Mapping):
        return ChatCall(id=call_id, name=name, arguments=arguments)
    try:
        return ChatCall(id=call_id, name=name, arguments=read_object(arguments or ""))
    except ValueError as error:
        return ChatCall(id=call_id, name=name, arguments={}, problem=f"the arguments cannot be read: {error}")


def stops(stop: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return stop sequences, given as one or several."""
    several = [stop] if isinstance(stop, str) else stop or []
    return tuple(each for each in several if each)


def named_tools(tools: Sequence[ToolSpec], names: Iterable[str], parameter: str) -> tuple[ToolSpec, ...]:
    """Return the tools that a request narrows its choice to."""
    known = {tool.name: tool for tool in tools}
    chosen = []
    for name in names:
        if name not in known:
            raise BadRequest(f"{parameter}: there is no tool {name!r} among the tools of this request", parameter)
        chosen.append(known[name])
    return tuple(chosen)


def _typed(items: Sequence[JSON], kind: type[Body]) -> list[object]:
    return [_known(item, kind) if type(item) is SeenObject else item for item in items]


def _known(item: SeenObject, kind: type[Body]) -> object:
    """Return the typed fields of an item; the item itself where they are wrong, for the body's error to say so."""
    if kind not in item.notes:
        try:
            item.notes[kind] = kind.model_validate(item)
        except ValidationError:
            return item
    return item.notes[kind]


def _is_field(step: str) -> bool:
    """Tell a field's name from that of a type, which stands in a path beside it."""
    return step.isidentifier() and not step.startswith("_") and step not in ("str", "dict")
