"""File names in query strings: any bytes, percent-encoded."""

from typing import Annotated, TypeAlias
from urllib.parse import parse_qs

from fastapi import Depends, Query, Request

__all__ = ["FilePath"]


def _path(
    request: Request,
    path: Annotated[str, Query(min_length=1, description="A path inside; any bytes, percent-encoded.")],
) -> str:
    """Return the path with bytes that are not UTF-8 as surrogates, where the framework would replace them."""
    query: str = request.scope["query_string"].decode("latin-1")
    given = parse_qs(query, keep_blank_values=True, errors="surrogateescape").get("path", [path])
    return given[-1]


FilePath: TypeAlias = Annotated[str, Depends(_path)]
"""The query parameter `path`."""
