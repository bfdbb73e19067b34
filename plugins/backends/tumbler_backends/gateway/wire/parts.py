"""Contents made of parts, as the text that a policy reads; the same for all APIs.

Agents send images and documents on their own, such as those that a tool brought, so that a refusal would end an
episode for what the policy did: a word stands in their place. What only people send is refused.
"""

from collections.abc import Sequence
from types import MappingProxyType

from tumbler_backends.gateway.wire.fields import Body
from tumbler_backends.gateway.wire.format import BadRequest

__all__ = ["Content", "Part", "text_of"]

_TEXTS = frozenset({"text", "input_text", "output_text", "summary_text", "reasoning_text"})
_LEFT_OUT = MappingProxyType(
    {
        "image": "image",
        "image_url": "image",
        "input_image": "image",
        "computer_screenshot": "image",
        "document": "document",
        "file": "file",
        "input_file": "file",
    }
)


class Source(Body):
    """Where a document comes from."""

    type: str = ""
    data: str = ""


class Part(Body):
    """One part of a content, of any type."""

    type: str = "text"
    text: str | None = None
    refusal: str | None = None
    title: str | None = None
    tool_name: str | None = None
    source: Source | str | None = None
    content: "str | list[Part] | None" = None


Content = str | list[Part] | None
"""A content as the APIs take it: one text, or parts."""


def text_of(content: str | Sequence[Part] | None, parameter: str) -> str:
    """Return the text of a content, its parts on lines of their own; raise `BadRequest` for what has no text."""
    if content is None or isinstance(content, str):
        return content or ""
    texts = [_text(part, f"{parameter}.{index}") for index, part in enumerate(content)]
    return "\n".join(text for text in texts if text)


def _text(part: Part, parameter: str) -> str:
    if part.type in _TEXTS:
        return part.text or ""
    if part.type == "refusal":
        return part.refusal or ""
    if part.type == "document" and isinstance(part.source, Source) and part.source.type == "text":
        return "\n".join(text for text in (part.title, part.source.data) if text)
    if part.type == "search_result":
        return "\n".join(text for text in (part.title, text_of(part.content, f"{parameter}.content")) if text)
    if part.type == "tool_reference":
        return part.tool_name or ""
    if part.type in _LEFT_OUT:
        return f"[{_LEFT_OUT[part.type]} left out: this model reads text only]"
    raise BadRequest(
        f"{parameter}: this model reads text only, and cannot take a part of type {part.type!r}", parameter
    )
