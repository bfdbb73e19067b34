"""JSON that every reader takes: no lone surrogates, no infinite numbers; knows no format."""

import math
import re
from collections.abc import Mapping, Sequence

from tumbler.contracts.values import JSON

__all__ = ["portable", "portable_text"]

_SURROGATES = re.compile("[\ud800-\udfff]")


def portable_text(text: str) -> str:
    """Return the text with U+FFFD for each lone surrogate, which UTF-8 cannot carry."""
    return _SURROGATES.sub("\ufffd", text)


def portable(value: JSON) -> JSON:
    """Return the value made of dicts and lists, its texts by `portable_text`, None for numbers that JSON lacks."""
    if isinstance(value, str):
        return portable_text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {portable_text(key): portable(each) for key, each in value.items()}
    if isinstance(value, Sequence):
        return [portable(each) for each in value]
    return value
