"""The threads on which PyTorch computes for a backend, off the event loop.

On Linux PyTorch comes with GNU's OpenMP. Each thread that computes keeps helpers of its own there, and once a process
has more of all these than there are processors, they go to sleep at each operation in place of waiting a moment for
the next one, which takes a small model twice the time. Thus a thread here ends as soon as it has nothing to do, and its
helpers with it: what computes by turns, as training and inference mostly do, has the processors for itself.
"""

from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import TypeVar

import torch

from tumbler.errors import TumblerError

__all__ = ["ComputingThread"]

_IDLE_S = 0.02
_TORCHS_CHOICE = torch.get_num_threads()

_Result = TypeVar("_Result")


def _no_step() -> bool:
    return False


def _no_stop() -> None:
    return None


class ComputingThread:
    """Runs commands in order, one at a time and, between them, steps for as long as there is work.

    Commands may be given from any thread. There is at most one thread behind this at a time, and none while it is idle.
    """

    def __init__(
        self,
        name: str,
        *,
        error: type[TumblerError],
        processors: int = 0,
        step: Callable[[], bool] = _no_step,
        stop: Callable[[], None] = _no_stop,
    ) -> None:
        """Begin without a thread.

        Args:
            name: of the backend, for the thread and for errors.
            error: is raised for commands after `close`.
            processors: threads for one operation of PyTorch; 0 is PyTorch's own choice.
            step: is called while it says that there is more to do, and after commands.
            stop: is called last of all.
        """
        self._name = name
        self._error = error
        self._processors = processors or _TORCHS_CHOICE
        self._step = step
        self._stop = stop
        self._lock = Lock()
        self._closed = False
        self._commands: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: Thread | None = None

    def post(self, command: Callable[[], None]) -> None:
        """Have the command run before the next step; it must not raise."""
        with self._lock:
            if self._closed:
                raise self._error(f"the {self._name} backend is closed")
            self._give(command)

    def call(self, function: Callable[[], _Result]) -> "Future[_Result]":
        """Have the function run before the next step and return the future of its result.

        Cancelled before it has begun, it does not run.
        """
        future: Future[_Result] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = function()
            except BaseException as error:  # noqa: BLE001  # the caller's code; its error is the caller's to see
                future.set_exception(error)
            else:
                future.set_result(result)

        self.post(run)
        return future

    def close(self, timeout: float) -> None:
        """Stop after the commands so far and wait for that, at most `timeout` seconds; safe to call twice."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._give(None)
            thread = self._thread
        if thread is not None:
            thread.join(timeout)

    def _give(self, command: Callable[[], None] | None) -> None:
        self._commands.put(command)
        if self._thread is None:
            self._thread = Thread(target=self._run, name=f"tumbler-{self._name}", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        # For this thread alone: each has its own count, and a new one that of whoever was last to set his.
        torch.set_num_threads(self._processors)
        busy = False
        while self._run_commands(wait=not busy):
            busy = self._step()

    def _run_commands(self, *, wait: bool) -> bool:
        """Run what has been given, after waiting for something if told to; return false at the thread's end."""
        ran = False
        try:
            command = self._commands.get(timeout=_IDLE_S) if wait else self._commands.get_nowait()
            while command is not None:
                command()
                ran = True
                command = self._commands.get_nowait()
        except Empty:
            return ran or not wait or not self._leaves()
        self._stop()
        return False

    def _leaves(self) -> bool:
        """Let go of the thread, unless something came at the last moment."""
        with self._lock:
            if self._commands.empty():
                self._thread = None
            return self._thread is None
