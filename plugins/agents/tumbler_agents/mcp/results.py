"""Puts what a server answered into words; what is no text is named with its kind and size."""

import json

from mcp.types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
)

from tumbler_agents.tools.bounds import bounded
from tumbler_agents.tools.tool import ToolOutput

__all__ = ["worded"]


def worded(result: CallToolResult, limit: int) -> ToolOutput:
    """Return a result as text of at most about `limit` characters; structured content stands in for lacking text."""
    parts = [_block(each) for each in result.content]
    if not parts and result.structured_content is not None:
        parts = [json.dumps(result.structured_content, ensure_ascii=False, indent=2)]
    text = bounded("\n".join(parts), limit)
    return ToolOutput(text=text or "(no output)", errored=result.is_error)


def _block(block: ContentBlock) -> str:
    if isinstance(block, TextContent):
        return block.text
    if isinstance(block, ImageContent | AudioContent):
        return f"[{block.type} ({block.mime_type}, {_bytes(block.data)} bytes), which cannot be shown]"
    if isinstance(block, ResourceLink):
        described = f": {block.description}" if block.description else ""
        return f"[resource {block.uri} ({block.name}){described}]"
    return _resource(block)


def _resource(block: EmbeddedResource) -> str:
    resource = block.resource
    if isinstance(resource, BlobResourceContents):
        kind = resource.mime_type or "of unknown kind"
        return f"[resource {resource.uri} ({kind}, {_bytes(resource.blob)} bytes), which cannot be shown]"
    return f"[resource {resource.uri}]\n{resource.text}"


def _bytes(base64: str) -> int:
    return len(base64.rstrip("=")) * 3 // 4
