"""Watch the engine: when it is gone, sandboxes say so at once; when it is back, those that survived go on."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from tumbler.errors import SandboxUnavailable
from tumbler_backends.sandbox.docker.engine import Engine

__all__ = ["Monitor"]


class Monitor:
    """A task that pings the engine for as long as the backend is started."""

    def __init__(
        self,
        engine: Engine,
        on_outage: Callable[[SandboxUnavailable], None],
        on_return: Callable[[], Awaitable[None]],
    ) -> None:
        """Begin to watch."""
        self._engine = engine
        self._on_outage = on_outage
        self._on_return = on_return
        self.outage: SandboxUnavailable | None = None
        """Why the engine cannot be used now."""
        self._task = asyncio.get_running_loop().create_task(self._watch())

    def require(self) -> None:
        """Raise where the engine is gone."""
        if self.outage is not None:
            raise SandboxUnavailable(str(self.outage))

    async def close(self) -> None:
        """Stop."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _watch(self) -> None:
        while True:
            await self._engine.outage()
            self.outage = SandboxUnavailable(
                f"the Docker engine at {self._engine.address} does not answer any more: start it again"
            )
            self._on_outage(self.outage)
            await self._engine.presence()
            self.outage = None
            with contextlib.suppress(SandboxUnavailable):  # gone again: the next turn tells
                await self._on_return()
