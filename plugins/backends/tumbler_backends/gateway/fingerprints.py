"""Digests of structured messages, equal where JSON says that they are; knows no session."""

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b

from tumbler.contracts.chat import ChatMessage
from tumbler.contracts.values import JSON, ToolSpec

__all__ = ["after", "digest", "of_head", "of_message", "of_tools", "size"]

_SIZE = 16


def digest(value: bytes) -> bytes:
    """Return the digest of bytes."""
    return blake2b(value, digest_size=_SIZE).digest()


def of_message(message: ChatMessage) -> bytes:
    """Return the digest of what a message says: not of its calls' ids, which some clients make anew."""
    calls = _written([[call.name, _plain(call.arguments)] for call in message.calls]) if message.calls else ""
    # Lengths keep the parts apart, whatever they say.
    head = f"{message.role} {len(message.content)} {len(message.thinking)} "
    return digest(f"{head}{message.content}{message.thinking}{calls}".encode(errors="surrogatepass"))


def of_head(contents: Sequence[str]) -> bytes:
    """Return the digest of the system messages that a conversation begins with."""
    return digest(_written(list(contents)).encode())


def of_tools(tools: Sequence[ToolSpec]) -> bytes:
    """Return the digest of a list of tools, their order included: the prompt has it too."""
    described: JSON = [[tool.name, tool.description, _plain(tool.parameters)] for tool in tools]
    return digest(_written(described).encode())


def after(prefix: bytes, message: bytes) -> bytes:
    """Return the digest of a conversation that ends with a message."""
    return digest(prefix + message)


def size(value: JSON) -> int:
    """Return how many characters a value takes as JSON."""
    return len(_written(value))


def _written(value: JSON) -> str:
    return _ENCODER.encode(value)


def _plain(value: JSON) -> JSON:
    """Return a value with whole numbers written as such: clients that know one kind of number echo 1.0 as 1."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(each) for each in value]
    return value


_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=True, separators=(",", ":"))
