"""Server-sent events as bytes, and the headers in which clients put their secret; knows no API."""

import json
from collections.abc import Mapping

from tumbler.contracts.values import JSONObject

__all__ = ["DONE", "bearer", "data", "event", "written"]

DONE = b"data: [DONE]\n\n"


def written(value: JSONObject) -> str:
    """Return JSON in ASCII alone: some clients split lines at line separators of Unicode."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


def data(value: JSONObject) -> bytes:
    """Return an event without a name."""
    return f"data: {written(value)}\n\n".encode()


def event(value: JSONObject) -> bytes:
    """Return an event whose name is its type."""
    return f"event: {value['type']}\n".encode() + data(value)


def bearer(headers: Mapping[str, str]) -> str | None:
    """Return the secret of a bearer token, or of the headers that take its place in some clients."""
    scheme, _, token = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("x-api-key", "").strip() or headers.get("api-key", "").strip() or None
