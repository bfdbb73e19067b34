"""Thoughts as the opaque text that some clients of the Responses API keep of them; nothing in it is secret."""

from base64 import b64decode, b64encode

__all__ = ["open_reasoning", "seal_reasoning"]

_PREFIX = "tumbler:"


def seal_reasoning(thinking: str) -> str:
    """Return thoughts as a text that clients hand back as it is."""
    return _PREFIX + b64encode(thinking.encode()).decode()


def open_reasoning(sealed: str | None) -> str:
    """Return the thoughts that were sealed here; nothing for what others sealed."""
    if sealed is None or not sealed.startswith(_PREFIX):
        return ""
    try:
        return b64decode(sealed.removeprefix(_PREFIX), validate=True).decode()
    except ValueError:
        return ""
