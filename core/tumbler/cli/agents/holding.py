"""Asynchronous contexts and conversations for a caller without an event loop: the terminal's own thread."""

import asyncio
import queue
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Generic, TypeVar

from tumbler.contracts.conversation import CallEnded, Conversation, Done, Event, Notice
from tumbler.sandboxes.background import BackgroundLoop

__all__ = ["Held", "Turn"]

Value = TypeVar("Value")

_TICK_S: Final = 0.15


class Held(Generic[Value]):
    """Keeps a context open, in one task from its beginning to its end."""

    def __init__(self, loop: BackgroundLoop, context: AbstractAsyncContextManager[Value]) -> None:
        """Open nothing yet."""
        self._loop = loop
        self._context = context
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> Value:
        """Open the context and return its value."""
        return self._loop.run(self._open())

    def __exit__(self, *_error: object) -> None:
        """Close it; raises what its end raises."""
        self._loop.run(self._close())

    async def _open(self) -> Value:
        opened: asyncio.Future[Value] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._hold(opened))
        try:
            waited: set[asyncio.Future[Any]] = {self._task, opened}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._task.cancel()
            await asyncio.wait({self._task})
            raise
        if not opened.done():
            opened.cancel()
            await self._task
        return opened.result()

    async def _hold(self, opened: "asyncio.Future[Value]") -> None:
        async with self._context as value:
            opened.set_result(value)
            await self._closing.wait()

    async def _close(self) -> None:
        self._closing.set()
        if self._task is not None:
            # Not awaited itself: an impatient caller must not cut the clean-up short.
            await asyncio.wait({self._task})
            self._task.result()


class Turn:
    """What comes of one message, for a thread that waits and may interrupt."""

    def __init__(
        self, loop: BackgroundLoop, conversation: Conversation, text: str, *, keep: Callable[[], Awaitable[None]]
    ) -> None:
        """Send the message; `keep` is called whenever there is something new that must not be lost."""
        self._loop = loop
        self._conversation = conversation
        self._keep = keep
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._task = loop.run(self._begin(text))
        self._stopping: asyncio.Task[None] | None = None

    def __iter__(self) -> Iterator[Event | None]:
        """Yield the events up to `Done`, and None whenever nothing has happened for a moment."""
        while True:
            try:
                event = self._events.get(timeout=_TICK_S)
            except queue.Empty:
                yield None
                continue
            yield event
            if isinstance(event, Done):
                return

    def interrupt(self) -> None:
        """Begin to stop the agent; its last events still come."""
        self._stopping = self._loop.run(self._begin_to_stop())

    async def _begin(self, text: str) -> "asyncio.Task[None]":
        return asyncio.create_task(self._pump(self._conversation.send(text)))

    async def _begin_to_stop(self) -> "asyncio.Task[None]":
        return self._stopping or asyncio.create_task(self._stop())

    async def _stop(self) -> None:
        """Interrupt until the turn is over: what comes before the agent has begun would be lost otherwise."""
        while not self._task.done():
            await self._conversation.interrupt()
            await asyncio.wait({self._task}, timeout=_TICK_S)

    async def _pump(self, stream: AsyncGenerator[Event]) -> None:
        done = Done(reason="failed", text="the conversation ended without a word")
        try:
            async for event in stream:
                if isinstance(event, Done):
                    done = event
                    continue
                self._events.put(event)
                if isinstance(event, CallEnded):
                    await self._save()
            await self._save()
        # The agent is a plugin's code: whatever it raises, the person must get an answer.
        except Exception as error:  # noqa: BLE001  # see above
            done = Done(reason="failed", text=f"{type(error).__name__}: {error}")
        finally:
            self._events.put(done)

    async def _save(self) -> None:
        try:
            await self._keep()
        except OSError as error:
            self._events.put(Notice(text=f"The conversation could not be saved: {error}"))
