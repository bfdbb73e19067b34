"""Field types of the wire: bytes as base64, and text that need not be UTF-8."""

import base64
import binascii
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

__all__ = ["Answer", "Body", "Seconds", "Text", "WireBytes", "WireText"]


class Body(BaseModel):
    """What a client sends: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, from_attributes=True, use_attribute_docstrings=True)


class Answer(BaseModel):
    """What the service answers: a client ignores fields that it does not know."""

    model_config = ConfigDict(extra="ignore", frozen=True, from_attributes=True, use_attribute_docstrings=True)


def _decode_bytes(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError("expected base64") from error


def _encode_bytes(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _decode_text(value: object) -> object:
    if isinstance(value, str):
        value.encode(errors="surrogateescape")  # refuses halves of characters, and takes what stands for bytes
        return value
    if isinstance(value, dict) and set(value) == {"base64"}:
        content = _decode_bytes(value["base64"])
        if isinstance(content, bytes):
            return content.decode(errors="surrogateescape")
    raise ValueError('expected a text, or {"base64": …} for bytes that are not UTF-8')


def _encode_text(value: str) -> str | dict[str, str]:
    if _is_utf8(value):
        return value
    return {"base64": _encode_bytes(value.encode(errors="surrogateescape"))}


def _require_utf8(value: str) -> str:
    if not _is_utf8(value):
        raise ValueError("expected UTF-8")
    return value


def _is_utf8(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


_BASE64 = {"type": "string", "contentEncoding": "base64", "pattern": "^[A-Za-z0-9+/]*={0,2}$"}

WireBytes: TypeAlias = Annotated[
    bytes,
    BeforeValidator(_decode_bytes),
    PlainSerializer(_encode_bytes, return_type=str),
    WithJsonSchema(_BASE64),
]
"""Bytes, as base64 in JSON."""

WireText: TypeAlias = Annotated[
    str,
    BeforeValidator(_decode_text),
    PlainSerializer(_encode_text, return_type=str | dict[str, str]),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "properties": {"base64": _BASE64},
                    "required": ["base64"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]
"""A file's name or a word of a command: text, or `{"base64": …}` where its bytes are not UTF-8.

In Python, such bytes are the surrogates of `os.fsdecode`.
"""

Text: TypeAlias = Annotated[str, AfterValidator(_require_utf8)]
"""Text that can be encoded: JSON can also escape halves of characters."""

Seconds: TypeAlias = Annotated[float, Field(ge=0, le=86400 * 3650, allow_inf_nan=False)]
"""A span of time."""
