"""JSON as it stands in what a model reads and writes: lenient about control characters, strict about values.

What is read can always be written again, in any encoding and by any JSON library.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import NoReturn

from tumbler.contracts.values import JSON, JSONObject

__all__ = ["DEEPEST", "read_json", "read_json_at", "read_object", "skip_space", "write_json"]

DEEPEST = 100
"""How deep values may be nested; far below what makes a JSON library run out of stack."""

_SPACE = re.compile(r"[ \t\r\n]*")


def write_json(value: JSON) -> str:
    """Return the value on one line, with letters of every script as they are."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)


def read_json(text: str) -> JSON:
    """Return the value that the whole text is; raise `ValueError`, with words for who wrote it, if it is none."""
    value, end = read_json_at(text, skip_space(text, 0))
    if skip_space(text, end) != len(text):
        raise ValueError("there is more text after the JSON value")
    return value


def read_json_at(text: str, start: int) -> tuple[JSON, int]:
    """Return the value that starts at an index, and the index after it; raise `ValueError` if there is none."""
    try:
        value, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise ValueError(error.msg) from error
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    _check(value)
    return value, end


def read_object(text: str) -> JSONObject:
    """Return the JSON object that the whole text is, an empty one for no text; raise `ValueError` if it is none."""
    value = read_json(text) if text.strip() else {}
    if not isinstance(value, Mapping):
        raise ValueError("they must be a JSON object")
    return value


def skip_space(text: str, start: int) -> int:
    """Return the index of the first character from `start` that is no white space of JSON."""
    match = _SPACE.match(text, start)
    return match.end() if match else start


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def _check(value: JSON) -> None:
    """Refuse what could be read but not be passed on. Walks with a stack of its own, whatever the depth."""
    waiting: list[tuple[JSON, int]] = [(value, 0)]
    while waiting:
        each, depth = waiting.pop()
        if depth > DEEPEST:
            raise ValueError(_TOO_DEEP)
        if isinstance(each, str):
            _check_text(each)
        elif isinstance(each, Mapping):
            for key, item in each.items():
                _check_text(key)
                waiting.append((item, depth + 1))
        elif isinstance(each, Sequence):
            waiting.extend((item, depth + 1) for item in each)


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("a string holds half of a surrogate pair") from error


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_TOO_DEEP = f"values are nested more than {DEEPEST} deep"
_DECODER = json.JSONDecoder(strict=False, parse_float=_number, parse_constant=_constant)
