"""Wait for work in a thread that must not be left alone with what it uses; knows no files."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

__all__ = ["to_the_end"]

Result = TypeVar("Result")


async def to_the_end(working: Coroutine[None, None, Result]) -> Result:
    """Await `working` also when the caller is cancelled: only then may its descriptors and folders be given up."""
    work = asyncio.ensure_future(working)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait((work,))
        if not work.cancelled():
            work.exception()  # nobody else asks for it
        raise
