"""Make sandboxes that begin with another one's files."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from tumbler.contracts.sandbox import Sandbox
from tumbler_backends.sandbox.docker.images import Image
from tumbler_backends.sandbox.docker.maker import Maker
from tumbler_backends.sandbox.docker.owned import OwnedSandbox

__all__ = ["fork_all"]


async def fork_all(
    maker: Maker, sandbox: OwnedSandbox, count: int, make: Callable[[Image], Awaitable[Sandbox]]
) -> Sequence[Sandbox]:
    """Return `count` copies that `make` makes of a snapshot's image, or none and an error; the snapshot goes again."""
    template = await maker.snapshot(sandbox)
    try:
        image = await maker.templates.find(template.id)
        outcomes = await asyncio.gather(*(make(image) for _ in range(count)), return_exceptions=True)
    finally:
        await maker.templates.delete(template.id)
    made = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    if failures:
        await asyncio.gather(*(copy.delete() for copy in made), return_exceptions=True)
        raise failures[0]
    return made
