"""Why a container has ended that nobody asked to end."""

import asyncio
from typing import Final

from tumbler.errors import SandboxUnavailable
from tumbler_backends.sandbox.docker.container import Container

__all__ = ["cause_of_death"]

_TERMINATED: Final = 143
_LOOKS: Final = 10
_PAUSE_S: Final = 0.2


async def cause_of_death(container: Container) -> tuple[str, str]:
    """Return why it has ended, in words, and the `cause` of `SandboxDied`: `oom`, `killed` or `host`."""
    for _ in range(_LOOKS):
        try:
            state = await container.state()
        except SandboxUnavailable:
            return "the Docker engine went away and took it along", "host"
        if state is None:
            break
        if state.oom:
            return "it ran out of memory", "oom"
        # The engine hears of the end a little later; and one that ends itself stops its containers first.
        if not state.running and state.exit_code != _TERMINATED:
            break
        await asyncio.sleep(_PAUSE_S)
    return "its container was killed", "killed"
