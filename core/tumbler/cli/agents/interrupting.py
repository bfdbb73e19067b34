"""Ctrl-C: it breaks off what is being typed, and is otherwise noted for whoever looks; knows no conversation."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

__all__ = ["Interruptions"]

_ENOUGH: Final = 2


class Interruptions:
    """The interruptions of one person, in the main thread.

    Python's own handler raises wherever the program happens to be, also where nobody expects it: while a line is
    printed, or while the last interruption is being dealt with. Here that can happen in `read` alone.
    """

    def __init__(self) -> None:
        """Catch nothing yet."""
        self._noted = False
        self._reading = False
        self._in_a_row = 0

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Catch them for as long as the context is open."""
        before = signal.signal(signal.SIGINT, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def read(self, ask: Callable[[], str]) -> str:
        """Return what `ask` returns; raises `KeyboardInterrupt` from within it, also for one that was noted before."""
        try:
            self._reading = True
            if self.take():
                raise KeyboardInterrupt
            return ask()
        finally:
            self._reading = False

    def take(self) -> bool:
        """Tell whether there was an interruption since this was asked last."""
        noted, self._noted = self._noted, False
        return noted

    def again(self) -> bool:
        """Count an interruption; tell whether it is the second one in a row, which is meant to leave."""
        self._in_a_row += 1
        return self._in_a_row >= _ENOUGH

    def over(self) -> None:
        """Note that the person has done something else: the next interruption is a first one."""
        self._in_a_row = 0

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        if self._reading:
            self._reading = False  # so that the clean-up after this one is not interrupted by the next
            raise KeyboardInterrupt
        self._noted = True
