"""Take typed values out of parsed JSON that may lack them; knows no file and no field's meaning."""

import math
from collections.abc import Mapping, Sequence

from tumbler.contracts.values import JSON, JSONObject

__all__ = ["integer", "number", "objects", "table", "text"]


def number(value: JSON) -> float | None:
    """Return a finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def integer(value: JSON) -> int:
    """Return a whole number, or 0 for anything else."""
    found = number(value)
    return 0 if found is None else int(found)


def text(value: JSON) -> str:
    """Return a string, or an empty one for anything else."""
    return value if isinstance(value, str) else ""


def table(value: JSON) -> JSONObject:
    """Return a JSON object, or an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def objects(value: JSON) -> tuple[JSONObject, ...]:
    """Return the objects of a JSON array; anything else is left out."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        return ()
    return tuple(table(each) for each in value if isinstance(each, Mapping))
