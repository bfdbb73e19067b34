"""Watches a stage for progress, and acts where there is none: writes down what hangs, gives it up, ends the run.

Progress is a rollout that ends, a token that is sampled, a training step that begins or ends. Knows no algorithm.
"""

import asyncio
import faulthandler
import logging
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from tumbler.contracts.inference import InferenceBackend
from tumbler.contracts.values import JSON
from tumbler.errors import RunError
from tumbler.rollout.flights import Flights
from tumbler.run.files import write_json

__all__ = ["OnStall", "Watchdog"]

OnStall: TypeAlias = Callable[[RunError], None]

_LOG = logging.getLogger("tumbler.run")
_LOOKS: Final = 10
"""How often in the allowed time it looks."""
_SHOWN: Final = 200


class Watchdog:
    """Runs beside a stage while its context is entered.

    After `seconds` without progress it writes what is in flight, and every stack, into the stage's folder, and gives
    up all rollouts that have been in flight for so long: they are rolled again. After as much time again without
    progress it calls `stop` with the error that is to end the run. While the trainer works it only writes and warns.
    """

    def __init__(
        self,
        flights: Flights,
        inference: InferenceBackend | None,
        folder: Path,
        *,
        seconds: float,
        on_stall: OnStall | None = None,
    ) -> None:
        """Watch; 0 seconds watches nothing. `on_stall` is told of the error before the block is ended by it."""
        self._on_stall = on_stall
        self._flights = flights
        self._inference = inference
        self._folder = folder
        self._seconds = seconds
        self._events = 0
        self._training = False
        self._stalls = 0
        self._task: asyncio.Task[None] | None = None
        self._watched: asyncio.Task[Any] | None = None
        self._error: RunError | None = None

    async def __aenter__(self) -> Self:
        """Begin to watch."""
        self._watched = asyncio.current_task()
        if self._seconds:
            self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Watch no longer; raise the error where the block was ended."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._error is None or self._watched is None:
            return
        others = self._watched.uncancel()
        if not others and (error is None or isinstance(error, asyncio.CancelledError)):
            raise self._error

    def note(self, *, training: bool | None = None) -> None:
        """Note progress; `training` says that the trainer begins or ends its work."""
        self._events += 1
        if training is not None:
            self._training = training

    async def _watch(self) -> None:
        try:
            await self._look()
        # The engine's own code counts its tokens; a watch that ended by its error would be one that nobody keeps.
        except Exception as error:  # noqa: BLE001  # see above
            _LOG.warning("the watch over the run failed", exc_info=error)
            self._stop(RunError(f"the watch over the run's progress failed: {error!r}"))

    async def _look(self) -> None:
        seen, since, acted = self._progress(), time.monotonic(), False
        while True:
            await asyncio.sleep(self._seconds / _LOOKS)
            now, found = time.monotonic(), self._progress()
            if found != seen:
                seen, since, acted = found, now, False
            elif now - since >= self._seconds:
                if acted and not self._training:
                    self._end()
                    return
                if not acted:
                    self._act()
                since, acted = now, True

    def _progress(self) -> tuple[int, float]:
        metrics = {} if self._inference is None else self._inference.metrics()
        return self._events, sum(value for name, value in metrics.items() if name.startswith("tokens_"))

    def _act(self) -> None:
        written = self._write_down()
        what = "the training step" if self._training else f"{len(self._flights)} rollouts in flight"
        _LOG.warning("no progress for %g s: %s; %s", self._seconds, what, written)
        if not self._training:
            given_up = self._flights.give_up(self._seconds, f"no progress in {self._seconds:g} s: given up")
            _LOG.warning("%d rollouts are given up and rolled again", given_up)

    def _end(self) -> None:
        written = self._write_down()
        self._stop(
            RunError(
                f"the run made no progress for {2 * self._seconds:g} s, although rollouts were given up and rolled "
                f"again; {written}. Resume the run when the cause is mended; rl.stall_seconds sets the time"
            )
        )

    def _stop(self, error: RunError) -> None:
        self._error = error
        if self._on_stall is not None:
            self._on_stall(error)
        if self._watched is not None:
            self._watched.cancel()

    def _write_down(self) -> str:
        """Write what is in flight, and the stacks of tasks and threads, and say where, or why not."""
        self._stalls += 1
        path = self._folder / f"stall-{self._stalls}.json"
        try:
            self._write_to(path)
        except (OSError, RunError) as error:
            return f"what hangs could not be written down: {error}"
        return f"what hangs is written to {path}"

    def _write_to(self, path: Path) -> None:
        now = time.monotonic()
        tasks: list[JSON] = [_stack(task) for task in list(asyncio.all_tasks())[:_SHOWN]]
        in_flight: list[JSON] = [
            {"rollout": flight.id, "seconds": round(now - flight.begun, 1)}
            for flight in self._flights.oldest_first()[:_SHOWN]
        ]
        threads = path.with_suffix(".threads.txt")
        with threads.open("w", encoding="utf-8") as file:
            faulthandler.dump_traceback(file)
        write_json(
            path,
            {
                "seconds": self._seconds,
                "training": self._training,
                "rollouts": len(self._flights),
                "in_flight": in_flight,
                "tasks": tasks,
                "threads": threads.name,
            },
        )


def _stack(task: "asyncio.Task[object]") -> JSON:
    """Return where a task stands, the outermost frame first; a task itself tells of no more than that one."""
    lines: list[JSON] = []
    waiting: Any = task.get_coro()
    while waiting is not None:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "gi_frame", None)
        if frame is not None:
            lines.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}")
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)
    return {"task": task.get_name(), "stack": lines}
