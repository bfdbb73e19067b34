"""Reads what the person types: lines with a history, pasted texts of many lines, short answers."""

import select
import sys
import termios
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tumbler.cli.agents.hearing import heard, listen

__all__ = ["Prompter"]

_PROMPT: Final = "> "
_MORE: Final = "… "
_LINES: Final = 2000
_PASTE_S: Final = 0.03
"""How soon the next line of a pasted text is there; nobody types so fast."""


class Prompter:
    """The keyboard."""

    def __init__(self, history: Path, commands: Callable[[], Sequence[str]]) -> None:
        """Keep what is typed in a file; `commands` are completed with the tabulator."""
        self._history = history
        self._commands = commands
        self._lines: list[str] = []
        """The finished lines of a message that is being typed."""

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Set the line editor up, and keep the history at the end."""
        import readline

        listen()
        readline.set_auto_history(False)
        # Where the line editor knows it, a pasted text comes as one.
        readline.parse_and_bind("set enable-bracketed-paste on")
        readline.set_completer_delims(" \n")
        readline.set_completer(self._complete)
        readline.parse_and_bind("tab: complete")
        with suppress(OSError):
            readline.read_history_file(self._history)
        try:
            yield
        finally:
            readline.set_history_length(_LINES)
            with suppress(OSError):
                self._history.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                readline.write_history_file(self._history)

    def read(self) -> str:
        """Return the next message; raises `EOFError` at the end of the input, and `KeyboardInterrupt`.

        A line that ends in a backslash goes on in the next one, and lines that are pasted belong together.
        """
        import readline

        lines = self._lines = []
        lines.append(input(_PROMPT))
        while True:
            if lines[-1].endswith("\\"):
                lines[-1] = lines[-1][:-1]
                lines.append(input(_MORE))
            elif _more_is_there():
                lines.append(input(""))
            else:
                break
        self._lines = []
        text = heard("\n".join(lines)).strip()
        if text and "\n" not in text:
            readline.add_history(text)
        return text

    @property
    def begun(self) -> bool:
        """Tell whether something had been typed when the last reading was broken off."""
        import readline

        return bool(self._lines or readline.get_line_buffer())

    def answer(self, question: str) -> str:
        """Return a short answer to a question; what was typed before it was asked is none."""
        with suppress(termios.error):
            termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
        return heard(input(question)).strip()

    def _complete(self, text: str, state: int) -> str | None:
        found = [f"/{name}" for name in self._commands() if f"/{name}".startswith(text)] if text[:1] == "/" else []
        return found[state] if state < len(found) else None


def _more_is_there() -> bool:
    readable, _, _ = select.select([sys.stdin], [], [], _PASTE_S)
    return bool(readable)
