"""One bash process that runs commands one after another; knows no time-outs and no restarts.

Control and output never mix: bash is told over a socket which command file to run, answers there
with the exit status, the working directory and the exported variables, and each command has fresh
pipes for its output. Commands see what `bash -c` gives them: messages begin with `bash: line N: `,
N counting from 1 in each command (`bash: eval: line N: ` for syntax errors, `environment: line N: `
inside functions).
"""

import asyncio
import errno
import os
from dataclasses import dataclass
from typing import Final

from tumbler.errors import SandboxDied
from tumbler_backends.sandbox.bubblewrap.box import Box
from tumbler_backends.sandbox.bubblewrap.layout import CONTROL_FOLDER
from tumbler_backends.sandbox.bubblewrap.process import BubblewrapProcess

__all__ = ["Answer", "Shell"]

_LOOP: Final = (
    # 250: out of the way of descriptors that people use, and closed for the commands themselves.
    "exec 250<&0 </dev/null; __tumbler_file=$1; shift; "
    # Restore `$?`, unless `set -e` would take that for a failure.
    '__tumbler_last() { [[ $- == *e* ]] || builtin return "$1"; }; '
    "__tumbler_turn=0; "
    # The answer stands before the command, so that a stray `break` or `continue` cannot skip it.
    "while :; do while __tumbler_status=$?; "
    '{ builtin printf \'%s\\0%s\\0%s\\0\' "$__tumbler_turn" "$__tumbler_status" "$PWD"; '
    "builtin declare -px; builtin printf '\\0'; } >&250; "
    "IFS=' ' builtin read -r -u 250 __tumbler_turn __tumbler_output || builtin exit 0; "
    f'IFS= builtin read -r -d "" __tumbler_command <{CONTROL_FOLDER}/"$__tumbler_file"; '
    'do __tumbler_last "$__tumbler_status"; builtin eval "$__tumbler_command" '
    f'>{CONTROL_FOLDER}/"$__tumbler_output"o 2>{CONTROL_FOLDER}/"$__tumbler_output"e 250>&-; done; done'
)
_FIELDS: Final = 4
_MAX_ANSWER_BYTES: Final = 16 << 20


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What bash says after a command."""

    status: int
    cwd: bytes
    exports: bytes
    """Shell text that sets the exported variables."""


class Shell:
    """A running bash. Commands must be run one at a time."""

    def __init__(self, process: BubblewrapProcess, first_words: bytes, commands: int) -> None:
        """Take over a process made by `start`, and the descriptor of its command file."""
        self.process = process
        self._commands = commands
        self._turn = 0
        self._heard = bytearray()
        self._answer: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        process.listen(self._hear)
        process.exited.add_done_callback(self._end)
        self._hear(first_words)

    @classmethod
    async def start(cls, box: Box) -> "Shell":
        """Start bash and wait until it takes commands."""
        name = f"{box.number()}c"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        commands = os.open(box.layout.control / name, flags, 0o600)
        try:
            process, word = await box.start(["bash", "--norc", "--noprofile", "-c", _LOOP, "bash", name], {})
        except BaseException:
            os.close(commands)
            raise
        shell = cls(process, word, commands)
        if await shell._answer is None:
            await process.killed()
            raise SandboxDied(f"the shell in sandbox {box.name} ended at its start")
        return shell

    async def run(self, command: bytes, output: int) -> Answer | None:
        """Run a command with its output going to the pipes of number `output`; None if bash itself ended."""
        if self.process.exited.done():
            return None
        self._turn += 1
        self._answer = asyncio.get_running_loop().create_future()
        # What an earlier, longer command left after the NUL is not read.
        text = command + b"\0"
        if os.pwrite(self._commands, text, 0) < len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.process.send(b"%d %d\n" % (self._turn, output))
        return await self._answer

    def _hear(self, words: bytes) -> None:
        self._heard += words
        while (fields := bytes(self._heard).split(b"\0", _FIELDS))[_FIELDS:]:
            self._heard[:] = fields[_FIELDS]
            turn, status, cwd, exports = fields[:_FIELDS]
            if turn == b"%d" % self._turn and status.isdigit():  # an answer to anything else is forged, or late
                self._settle(Answer(status=int(status), cwd=cwd, exports=exports))
        if len(self._heard) > _MAX_ANSWER_BYTES:  # no bash says that much: the commands forge answers
            self.process.kill()

    def _end(self, _: "asyncio.Future[int]") -> None:
        os.close(self._commands)
        self._settle(None)

    def _settle(self, answer: Answer | None) -> None:
        if not self._answer.done():
            self._answer.set_result(answer)
