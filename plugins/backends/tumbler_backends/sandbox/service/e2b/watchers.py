"""Watched folders whose events are fetched, for clients that cannot hold a stream open."""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Final

from tumbler.contracts.sandbox_files import FileEvent
from tumbler_backends.sandbox.service.e2b.faults import RpcError

__all__ = ["Watcher", "WatcherTable", "watched"]

_KEPT_EVENTS: Final = 10_000
_SETTLE_S: Final = 0.1
"""A watch that cannot be had says so within this time; one that can is in place by then."""


@dataclass(kw_only=True)
class Watcher:
    """One watched folder."""

    folder: str
    entries: bool
    """Whether the client wants each event's entry too."""
    events: deque[FileEvent]
    """Those that nobody fetched yet."""
    task: "asyncio.Task[None]"


class WatcherTable:
    """The watchers of one sandbox."""

    def __init__(self) -> None:
        """Have none."""
        self._watchers: dict[str, Watcher] = {}

    async def create(self, folder: str, entries: bool, events: AsyncIterator[FileEvent]) -> str:
        """Watch from now on; return the watcher's id."""
        kept: deque[FileEvent] = deque(maxlen=_KEPT_EVENTS)

        async def collect() -> None:
            async for event in events:
                kept.append(event)

        task = asyncio.create_task(collect())
        done, _ = await asyncio.wait((task,), timeout=_SETTLE_S)
        if done:
            task.result()
        identity = secrets.token_hex(8)
        self._watchers[identity] = Watcher(folder=folder, entries=entries, events=kept, task=task)
        return identity

    def fetch(self, identity: str) -> tuple[Watcher, list[FileEvent]]:
        """Return a watcher and the events since the last call."""
        watcher = self._find(identity)
        if watcher.task.done() and not watcher.events:
            watcher.task.result()
        events = list(watcher.events)
        watcher.events.clear()
        return watcher, events

    async def remove(self, identity: str) -> None:
        """Stop watching."""
        watcher = self._find(identity)
        del self._watchers[identity]
        watcher.task.cancel()
        await asyncio.gather(watcher.task, return_exceptions=True)

    async def close(self) -> None:
        """Stop all watching."""
        for identity in tuple(self._watchers):
            await self.remove(identity)

    def _find(self, identity: str) -> Watcher:
        if identity not in self._watchers:
            raise RpcError("not_found", f"there is no watcher {identity!r}")
        return self._watchers[identity]


async def watched(
    events: AsyncIterator[FileEvent], *, keepalive: float, deadline: float | None
) -> AsyncGenerator[FileEvent | None, None]:
    """Yield events, with None first when the watch is in place and then at every silence of `keepalive` seconds.

    Raises `RpcError` when `deadline` seconds are over.
    """
    loop = asyncio.get_running_loop()
    last = None if deadline is None else loop.time() + deadline
    patience = _SETTLE_S
    coming: asyncio.Task[FileEvent] = asyncio.ensure_future(_next(events))
    started = False
    try:
        while True:
            done, _ = await asyncio.wait((coming,), timeout=patience)
            if last is not None and loop.time() >= last:
                raise RpcError("deadline_exceeded", f"the deadline of {deadline} s has passed")
            if not started or not done:
                if done:
                    coming.result()
                yield None
                started = True
            if done:
                yield coming.result()
                coming = asyncio.ensure_future(_next(events))
            patience = keepalive if last is None else min(keepalive, max(0.0, last - loop.time()))
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


async def _next(events: AsyncIterator[FileEvent]) -> FileEvent:
    try:
        return await anext(events)
    except StopAsyncIteration:
        raise RpcError("unavailable", "the watch has ended") from None
