"""Bodies of requests as JSON: strict where a value could not be passed on, lenient about broken characters."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NoReturn

from tumbler.contracts.values import JSON, JSONObject
from tumbler_backends.gateway.seen import SeenBodies
from tumbler_backends.gateway.wire.format import BadRequest

__all__ = ["read_body", "seen_bodies"]

_DEEPEST: Final = 200
"""How deep values may be nested; far below what makes a JSON library run out of stack."""


def seen_bodies() -> SeenBodies:
    """Return what remembers the bodies of one session."""
    return SeenBodies(_DECODER, _accept)


def read_body(body: bytes, seen: SeenBodies | None = None) -> JSONObject:
    """Return the object that a body holds; raise `BadRequest` if it holds none. `seen` knows parts that came before.

    Half of a surrogate pair, which clients make when they cut text in the middle of a character, becomes U+FFFD.
    """
    try:
        text = body.decode()
        known = None if seen is None else seen.read(text)
        value = _DECODER.decode(text) if known is None else known
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8: {error.reason} at byte {error.start}") from error
    except RecursionError as error:
        raise BadRequest(f"the body is nested more than {_DEEPEST} deep") from error
    except ValueError as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadRequest("the body must be a JSON object")
    if known is not None:
        return known
    accepted = _accept(value, text)
    assert isinstance(accepted, dict)
    return accepted


def _accept(value: JSON, text: str) -> JSON:
    """Return a value that can be passed on; `text` is what it was parsed from."""
    if isinstance(value, dict | list):
        _require_shallow(value)
    # Only an escape can bring half of a surrogate pair, since UTF-8 has none.
    return _each(_whole, value) if "\\ud" in text or "\\uD" in text else value


def _require_shallow(value: dict[str, JSON] | list[JSON]) -> None:
    """Refuse what is nested too deep. Level by level, it takes no stack, and little time for wide bodies."""
    level: list[dict[str, JSON] | list[JSON]] = [value]
    for _ in range(_DEEPEST):
        level = [
            item
            for each in level
            for item in (each.values() if isinstance(each, dict) else each)
            if isinstance(item, dict | list)
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
