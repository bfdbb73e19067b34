"""What a turn called, as text that can be compared. Knows no environment."""

import json

from tumbler.trajectory.record import Chunk

__all__ = ["call_text"]


def call_text(chunk: Chunk) -> str:
    """Return the chunk's calls as text, whatever the order of their arguments; without any, what it said."""
    if not chunk.tool_calls:
        return chunk.text
    calls = [{"name": call.name, "arguments": call.arguments} for call in chunk.tool_calls]
    return json.dumps(calls, sort_keys=True)
