"""Commands that are waited for by id: a client whose connection broke asks again and gets the same run's result."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from tumbler.contracts.sandbox import ExecResult
from tumbler.errors import SandboxError

__all__ = ["Runs"]

_KEPT_S: Final = 120.0
_KEPT_BYTES: Final = 32 << 20
_REMEMBERED: Final = 10_000


class Runs:
    """The runs of one sandbox, or of one session."""

    def __init__(self) -> None:
        """Start with none."""
        self._tasks: OrderedDict[str, asyncio.Task[ExecResult]] = OrderedDict()
        self._over: OrderedDict[str, str] = OrderedDict()
        """Ids whose results are gone → why."""

    async def run(self, run_id: str | None, start: Callable[[], Awaitable[ExecResult]]) -> ExecResult:
        """Start a command, or join the run of that id, and wait for its end.

        The command goes on when the waiter is gone. Raises `SandboxError` for an id whose result is no
        longer there.
        """
        if run_id is None:
            return await _finished(asyncio.ensure_future(_awaited(start)))
        if run_id in self._over:
            raise SandboxError(f"the run {run_id} {self._over[run_id]}")
        task = self._tasks.get(run_id)
        if task is None:
            task = asyncio.ensure_future(_awaited(start))
            self._tasks[run_id] = task
            task.add_done_callback(lambda _: self._keep(run_id))
        return await _finished(task)

    async def cancel(self, run_id: str) -> None:
        """Kill the run of that id and wait for its end; one that has not come yet will be refused."""
        task = self._tasks.get(run_id)
        self._forget(run_id, "was cancelled")
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait({task})

    def _keep(self, run_id: str) -> None:
        asyncio.get_running_loop().call_later(_KEPT_S, self._forget, run_id, "ended long ago; its result is gone")
        kept = 0
        for each in reversed(tuple(self._tasks)):
            kept += _size(self._tasks[each])
            if kept > _KEPT_BYTES and each != run_id and self._tasks[each].done():
                self._forget(each, "ended; its result took too much room to be kept")

    def _forget(self, run_id: str, why: str) -> None:
        self._tasks.pop(run_id, None)
        self._over.setdefault(run_id, why)
        while len(self._over) > _REMEMBERED:
            self._over.popitem(last=False)


async def _awaited(start: Callable[[], Awaitable[ExecResult]]) -> ExecResult:
    return await start()


async def _finished(task: "asyncio.Future[ExecResult]") -> ExecResult:
    await asyncio.wait({task})
    if task.cancelled():
        raise SandboxError("the run was cancelled")
    return task.result()


def _size(task: "asyncio.Future[ExecResult]") -> int:
    if not task.done() or task.cancelled() or task.exception() is not None:
        return 0
    return len(task.result().stdout) + len(task.result().stderr)
