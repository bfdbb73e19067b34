"""Bodies of requests as JSON: strict where a value could not be passed on, lenient about broken characters."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NoReturn

from tumbler.contracts.values import JSON, JSONObject
from tumbler_backends.gateway.wire.format import BadRequest

__all__ = ["read_body"]

_DEEPEST: Final = 200
"""How deep values may be nested; far below what makes a JSON library run out of stack."""


def read_body(body: bytes) -> JSONObject:
    """Return the object that a body holds; raise `BadRequest` if it holds none.

    Half of a surrogate pair, which clients make when they cut text in the middle of a character, becomes U+FFFD.
    """
    try:
        value = _DECODER.decode(body.decode())
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8: {error.reason} at byte {error.start}") from error
    except RecursionError as error:
        raise BadRequest(f"the body is nested more than {_DEEPEST} deep") from error
    except ValueError as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadRequest("the body must be a JSON object")
    _require_shallow(value)
    # Only an escape can bring half a pair, since UTF-8 has none.
    if b"\\ud" in body or b"\\uD" in body:
        return {_whole(key): _each(_whole, each) for key, each in value.items()}
    return value


def _require_shallow(value: dict[str, object]) -> None:
    """Refuse what is nested too deep. Level by level, it takes no stack, and little time for wide bodies."""
    level: list[dict[str, object] | list[object]] = [value]
    for _ in range(_DEEPEST):
        level = [
            item
            for each in level
            for item in (each.values() if isinstance(each, dict) else each)
            if type(item) is dict or type(item) is list
        ]
        if not level:
            return
    raise BadRequest(f"the body is nested more than {_DEEPEST} deep")


def _each(change: Callable[[str], str], value: JSON) -> JSON:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(key): _each(change, item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_each(change, item) for item in value]
    return value


def _whole(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER: Final = json.JSONDecoder(parse_float=_number, parse_constant=_constant)
