"""What the first program inside does: a shell that waits for one script, and runs it; starts nothing itself.

The shell is process 1 of its pid namespace and stays until the command ends, so that what the
command leaves behind ends with it, and is counted. A copy of it says `ready`, reads the name of a
script in the control folder, and becomes the command.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tumbler_backends.sandbox.bubblewrap.filesystem.layout import CONTROL_FOLDER

__all__ = ["LOST", "MOST_SAID", "ON", "READY", "RUNNER", "TERMINAL_RUNNER", "Script", "command_text", "spawn_text"]

READY: Final = b"ready\n"
LOST: Final = b"lost\n"
"""Said where the command's folder does not exist."""
ON: Final = b"on\n"
"""Said once a spawned command's pipes are open."""
MOST_SAID: Final = 64
"""How much a runner may say, in bytes: it may be a shell of an image, and untrusted."""

_RUN: Final = f'(echo ready >&0; read -r script <&0 || exit 1; . "{CONTROL_FOLDER}/$script"); exit $?'
RUNNER: Final = ("/bin/sh", "-c", _RUN, "sh")
# The shell that bwrap starts leads a session: the terminal that it opens first becomes the session's own.
TERMINAL_RUNNER: Final = (
    "/bin/sh",
    "-c",
    f'echo terminal >&0; read -r number <&0 || exit 1; exec 1<>"/dev/pts/$number"; {_RUN}',
    "sh",
)

_ENTER: Final = "cd -- {folder} 2>/dev/null || {{ echo lost >&0; exit 1; }}; unset OLDPWD; "


class Script:
    """A script for one runner. It ends with the command, so that later commands cannot read it."""

    def __init__(self, control: Path, number: int, text: str) -> None:
        """Write it to the control folder."""
        self._path = control / f"{number}x"
        self._path.write_text(text, encoding="utf-8", errors="surrogateescape")

    @property
    def word(self) -> bytes:
        """Return what makes a runner run it."""
        return self._path.name.encode() + b"\n"

    def remove(self) -> None:
        """Remove it. Safe to call twice."""
        self._path.unlink(missing_ok=True)


def command_text(words: Sequence[str], folder: str, number: int, stdin: str) -> str:
    """Return the script of a command that reads `stdin` and writes to the pipes of `number`.

    The shell gives 126, 127 and their messages.
    """
    pipes = f"<{stdin} >{CONTROL_FOLDER}/{number}o 2>{CONTROL_FOLDER}/{number}e"
    return f"{_ENTER.format(folder=shlex.quote(folder))}exec {shlex.join(words)} {pipes}\n"


def spawn_text(words: Sequence[str], folder: str, redirections: str) -> str:
    """Return the script of a command that says `on` once its `redirections` are made."""
    enter = _ENTER.format(folder=shlex.quote(folder))
    return f"{enter}exec 3>&0 {redirections}; echo on >&3; exec {shlex.join(words)} 3>&-\n"
