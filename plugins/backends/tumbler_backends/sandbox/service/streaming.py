"""Streams bodies: a failure before the first piece is an answer of its own, one after it breaks the connection."""

from collections.abc import AsyncIterator
from typing import Final, TypeVar

__all__ = ["OCTETS", "begin"]

OCTETS: Final = "application/octet-stream"

Piece = TypeVar("Piece")


async def begin(pieces: AsyncIterator[Piece]) -> AsyncIterator[Piece]:
    """Wait for the first piece, so that errors raise here; return an iterator over all."""
    try:
        first = await anext(pieces)
    except StopAsyncIteration:
        return _rest((), pieces)
    return _rest((first,), pieces)


async def _rest(first: tuple[Piece, ...], pieces: AsyncIterator[Piece]) -> AsyncIterator[Piece]:
    try:
        for piece in first:
            yield piece
        async for piece in pieces:
            yield piece
    finally:
        close = getattr(pieces, "aclose", None)
        if close is not None:
            await close()
