"""Shows a conversation on a terminal, as it happens and line by line; decides nothing."""

import time
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.text import Text

from tumbler.cli.agents.calls import beside_changes, changes, headline, in_full
from tumbler.cli.agents.wording import cleaned, ending, usage
from tumbler.contracts.conversation import (
    ApprovalNeeded,
    CallEnded,
    CallStarted,
    Compacted,
    Done,
    Event,
    HookRan,
    Notice,
    Said,
    Spoken,
    TextPiece,
    TokensUsed,
)
from tumbler.contracts.values import JSONObject

__all__ = ["Screen"]

_MAIN: Final = "main"
_RESULT_LINES: Final = 4
_DIFF_LINES: Final = 40
_FULL_LINES: Final = 60
_RECALLED: Final = 4
_RECALLED_LINES: Final = 8
_PATIENCE_S: Final = 0.6
_TURNING: Final = "|/-\\"
_COLOURS: Final = {"+": "green", "-": "red", "@": "cyan"}


class Screen:
    """One terminal."""

    def __init__(self, console: Console, *, window: int, window_source: str) -> None:
        """Show the use of tokens against the window."""
        self._console = console
        self._window = window
        self._window_source = window_source
        self._open_line = False
        """Whether the cursor stands behind a text that may go on."""
        self._streamed = False
        """Whether the reply that is being given was shown as it came."""
        self._waiting = False
        """Whether the line says that the agent is at work."""
        self._quiet_since = time.monotonic()
        self._calls: dict[str, CallStarted] = {}
        self._requested: list[JSONObject] = []
        """The arguments of calls that were shown in full, for the person's approval."""
        self._used: TokensUsed | None = None
        self._news = False
        """Whether the model was called since the person spoke."""

    def opening(self, lines: Sequence[str]) -> None:
        """Say with whom the person speaks, and what that one can touch."""
        for number, line in enumerate(lines):
            self._print(line, "bold" if number == 0 else "", wrap=True)
        self._print("")

    def recall(self, spoken: Sequence[Spoken]) -> None:
        """Show how an earlier conversation ended."""
        for each in spoken[-_RECALLED:]:
            lines = each.text.splitlines()
            shown = lines if len(lines) <= _RECALLED_LINES else [*lines[:_RECALLED_LINES], "…"]
            self._print(("> " if each.who == "person" else "") + "\n".join(shown), "dim")
        self._print("")

    def say(self, text: str, style: str = "") -> None:
        """Say something to the person."""
        self._print(text, style, wrap=True)

    def tick(self) -> None:
        """Show that the agent is at work, where nothing else has been shown for a moment."""
        waited = time.monotonic() - self._quiet_since
        if not self._console.is_terminal or self._open_line or waited < _PATIENCE_S:
            return
        self._erase_waiting()
        self._waiting = True
        turning = _TURNING[int(waited * 4) % len(_TURNING)]
        line = Text(f"{turning} {int(waited)} s (Ctrl-C interrupts)", style="dim")
        line.truncate(max(1, self._console.width - 1))  # a second line could not be wiped away
        self._console.print(line, end="", soft_wrap=True)
        self._console.file.flush()

    def show(self, event: Event) -> None:
        """Show what has happened."""
        match event:
            case TextPiece(agent_id=agent, text=text):
                if agent == _MAIN:
                    self._stream(text)
            case Said():
                self._said(event)
            case CallStarted():
                self._calls[event.call_id] = event
                self._print(f"● {headline(event.name, event.arguments)}", "cyan", indent=_depth(event.agent_id))
            case CallEnded():
                self._ended(event)
            case Done():
                self._done(event)
            case _:
                self._note(event)

    def _note(self, event: Event) -> None:
        match event:
            case TokensUsed():
                self._news = True
                self._used = event if event.agent_id == _MAIN else self._used
            case Compacted():
                self._print(f"Compacted: {event.tokens_before:,} → {event.tokens_after:,} tokens", "magenta")
            case HookRan(outcome=outcome):
                if outcome not in ("passed", "changed"):
                    self._print(f"hook {event.name} ({event.event}) {outcome}: {event.detail}", "yellow")
            case Notice(text=text):
                self._print(text, wrap=True)
            case _:
                pass

    def request(self, needed: ApprovalNeeded, before: str | None) -> None:
        """Show in full what is to be approved: no end of a line, and no argument, may hide from the person."""
        agent = "" if needed.agent_id == _MAIN else f" ({needed.agent_id})"
        self._print(f"{needed.name}{agent}", "bold", indent=1)
        diff = changes(needed.arguments, before)
        if diff:
            self._print(str(needed.arguments.get("path")), "bold", indent=1)
            self._request_lines(diff, coloured=True)
        self._request_lines(in_full(beside_changes(needed.arguments) if diff else needed.arguments))
        self._requested.append(needed.arguments)

    def resume(self) -> None:
        """Note that the agent goes on: the time that the person took is none that the agent takes."""
        self._quiet_since = time.monotonic()

    def used(self) -> str:
        """Return how full the window is, as far as that is known."""
        return "" if self._used is None else usage(self._used, self._window, self._window_source)

    def _said(self, event: Said) -> None:
        streamed, self._streamed = self._streamed, False
        if event.agent_id != _MAIN:
            return
        if streamed:
            self._finish_line()
        elif event.text:
            self._print(event.text)

    def _ended(self, event: CallEnded) -> None:
        started = self._calls.pop(event.call_id, None)
        depth = _depth(event.agent_id)
        if started is None:  # refused before it began
            self._print(f"● {event.name}", "cyan", indent=depth)
        diff = () if started is None or event.errored else changes(started.arguments, None)
        if started is not None and started.arguments in self._requested:
            diff = ()
        if diff and depth == 0:
            self._diff(diff, _DIFF_LINES)
        self._lines(event.text.splitlines(), _RESULT_LINES, "red" if event.errored else "dim", depth=depth)

    def _done(self, event: Done) -> None:
        self._streamed = False
        self._calls.clear()
        self._requested.clear()
        told = ending(event)
        if told:
            self._print(told, "yellow" if event.reason == "interrupted" else "red", wrap=True)
        if self._news:
            self._print(self.used(), "dim")
        self._news = False
        self._finish_line()

    def _diff(self, lines: Sequence[str], most: int) -> None:
        for line in lines[:most]:
            self._print(line, _COLOURS.get(line[:1], "dim"), indent=2)
        if len(lines) > most:
            self._print(f"… {len(lines) - most} more lines", "dim", indent=2)

    def _request_lines(self, lines: Sequence[str], *, coloured: bool = False) -> None:
        left_out = len(lines) - _FULL_LINES
        tail = _FULL_LINES // 3
        for number, line in enumerate(lines):
            if left_out > 0 and number == _FULL_LINES - tail:
                self._print(f"… {left_out} lines are not shown here …", "bold yellow", indent=2)
            if left_out <= 0 or not _FULL_LINES - tail <= number < len(lines) - tail:
                self._print(line, _COLOURS.get(line[:1], "dim") if coloured else "dim", indent=2)

    def _lines(self, lines: Sequence[str], most: int, style: str = "dim", *, depth: int = 0) -> None:
        for line in lines[:most]:
            self._print(line, style, indent=2 + depth, cut=True)
        if len(lines) > most:
            self._print(f"… {len(lines) - most} more lines", "dim", indent=2 + depth)

    def _stream(self, text: str) -> None:
        self._erase_waiting()
        self._console.print(Text(cleaned(text)), end="", soft_wrap=True)
        self._console.file.flush()
        self._open_line = not text.endswith("\n")
        self._streamed = True
        self._quiet_since = time.monotonic()

    def _print(self, text: str, style: str = "", *, indent: int = 0, cut: bool = False, wrap: bool = False) -> None:
        self._finish_line()
        shown = Text(f"{'  ' * indent}{cleaned(text)}", style=style)
        if cut:
            shown.truncate(max(20, self._console.width - 1), overflow="ellipsis")
        self._console.print(shown, soft_wrap=not wrap)
        self._quiet_since = time.monotonic()

    def _finish_line(self) -> None:
        self._erase_waiting()
        if self._open_line:
            self._console.print()
            self._open_line = False

    def _erase_waiting(self) -> None:
        if self._waiting:
            self._console.file.write("\r\x1b[K")
            self._waiting = False


def _depth(agent_id: str) -> int:
    return agent_id.count("/")
