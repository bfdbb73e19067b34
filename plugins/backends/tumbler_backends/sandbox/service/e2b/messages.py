"""Read fields of protobuf messages in JSON, where a field may be missing and numbers may be strings."""

import base64
import binascii
from collections.abc import Mapping

from tumbler_backends.sandbox.service.e2b.faults import RpcError
from tumbler_backends.sandbox.service.e2b.framing import Json

__all__ = ["encoded", "flag", "mapping", "number", "octets", "text", "texts"]


def mapping(message: Mapping[str, object], name: str) -> Json:
    """Return a field that is a message; empty where it is missing."""
    value = message.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _wrong(name, "an object")
    return value


def text(message: Mapping[str, object], name: str) -> str:
    """Return a string field; empty where it is missing."""
    value = message.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _wrong(name, "a string")
    return value


def texts(message: Mapping[str, object], name: str) -> list[str]:
    """Return a repeated string field."""
    value = message.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _wrong(name, "a list of strings")
    return value


def number(message: Mapping[str, object], name: str) -> int:
    """Return an integer field; 0 where it is missing."""
    value = message.get(name)
    if value is None:
        return 0
    try:
        return int(str(value))
    except ValueError:
        raise _wrong(name, "an integer") from None


def flag(message: Mapping[str, object], name: str) -> bool:
    """Return a boolean field; false where it is missing."""
    value = message.get(name, False)
    if not isinstance(value, bool):
        raise _wrong(name, "a boolean")
    return value


def octets(message: Mapping[str, object], name: str) -> bytes | None:
    """Return a bytes field; None where it is missing."""
    if name not in message:
        return None
    try:
        return base64.b64decode(text(message, name), altchars=None)
    except (binascii.Error, ValueError):
        raise _wrong(name, "base64") from None


def encoded(data: bytes) -> str:
    """Return bytes as JSON has them."""
    return base64.b64encode(data).decode()


def _wrong(name: str, kind: str) -> RpcError:
    return RpcError("invalid_argument", f"the field {name!r} must be {kind}")
