"""An event loop in a thread of its own, for callers without one; knows no sandbox."""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Final, ParamSpec, TypeVar

__all__ = ["BackgroundLoop"]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_THREADS: Final = 8


class BackgroundLoop:
    """Runs what is handed to it until `stop`. Calls may come from any thread but its own."""

    def __init__(self) -> None:
        """Start the thread."""
        self._loop = asyncio.new_event_loop()
        self._workers = _Workers(_THREADS)
        self._loop.set_default_executor(self._workers)
        # A daemon, since others would keep the interpreter from reaching its exit functions.
        self._thread = threading.Thread(target=self._serve, name="tumbler-sandboxes", daemon=True)
        self._thread.start()

    def run(self, awaitable: Awaitable[Result]) -> Result:
        """Wait for an awaitable; an interrupt of the caller cancels it."""
        if threading.current_thread() is self._thread:
            raise RuntimeError("the event loop's own thread cannot wait for it; await the asynchronous object instead")
        future = asyncio.run_coroutine_threadsafe(_awaited(awaitable), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, stream: AsyncIterator[Result]) -> Iterator[Result]:
        """Yield what an asynchronous iterator yields, and close it at the end."""
        try:
            while (found := self.run(_next(stream))) is not None:
                yield found[0]
        finally:
            close = getattr(stream, "aclose", None)
            if close is not None:
                self.run(close())

    def stop(self) -> None:
        """End the loop and its threads. Safe to call twice."""
        if self._loop.is_closed():
            return
        with suppress(RuntimeError):  # it was stopped meanwhile
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._workers.shutdown()
        self._loop.close()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()


class _Workers(ThreadPoolExecutor):
    """Threads that exist from the beginning, and serve until they are shut down.

    The standard executor refuses work once the interpreter is about to end, and no thread can be started
    then: but that is when left-over sandboxes are deleted.
    """

    def __init__(self, count: int) -> None:
        super().__init__(max_workers=count)
        self._orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._serving = [threading.Thread(target=self._work, name="tumbler-worker", daemon=True) for _ in range(count)]
        for thread in self._serving:
            thread.start()

    def submit(
        self, fn: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Future[Result]:
        future: Future[Result] = Future()

        def carry_out() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001  # handed to whoever waits for the future
                future.set_exception(error)

        self._orders.put(carry_out)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        for _ in self._serving:
            self._orders.put(None)
        for thread in self._serving if wait else ():
            thread.join()
        self._serving = []

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            order()


async def _awaited(awaitable: Awaitable[Result]) -> Result:
    return await awaitable


async def _next(stream: AsyncIterator[Result]) -> tuple[Result] | None:
    try:
        return (await anext(stream),)
    except StopAsyncIteration:
        return None
