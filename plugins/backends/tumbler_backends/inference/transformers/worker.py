"""A thread that owns the model: it runs commands in order and, between them, steps for as long as there is work."""

from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import TypeVar

from tumbler.errors import InferenceError

__all__ = ["Worker"]

_Result = TypeVar("_Result")


class Worker:
    """One thread; `post` and `call` may be used from any other."""

    def __init__(self, step: Callable[[], bool], stop: Callable[[], None]) -> None:
        """Start the thread. `step` tells whether there is more to do; `stop` is called last."""
        self._step = step
        self._stop = stop
        self._lock = Lock()
        self._closed = False
        self._commands: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="tumbler-inference", daemon=True)
        self._thread.start()

    def post(self, command: Callable[[], None]) -> None:
        """Have the command run before the next step; it must not raise."""
        with self._lock:
            if self._closed:
                raise InferenceError("the inference backend is closed")
            self._commands.put(command)

    def call(self, function: Callable[[], _Result]) -> "Future[_Result]":
        """Have the function run before the next step and return the future of its result."""
        future: Future[_Result] = Future()

        def run() -> None:
            try:
                result = function()
            except BaseException as error:  # noqa: BLE001  # the caller's code; its error is the caller's to see
                if not future.cancelled():
                    future.set_exception(error)
                return
            if not future.cancelled():
                future.set_result(result)

        self.post(run)
        return future

    def close(self, timeout: float) -> None:
        """End the thread after the commands so far and wait for it, at most `timeout` seconds."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._commands.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        has_work = False
        while self._run_commands(wait=not has_work):
            has_work = self._step()
        self._stop()

    def _run_commands(self, *, wait: bool) -> bool:
        """Run what has been posted, after waiting for something if told to; return false at the end."""
        try:
            command = self._commands.get(block=wait)
            while command is not None:
                command()
                command = self._commands.get_nowait()
        except Empty:
            return True
        return False
