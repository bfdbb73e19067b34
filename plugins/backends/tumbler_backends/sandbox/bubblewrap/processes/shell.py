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
import shlex
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tumbler.errors import SandboxStartFailed
from tumbler_backends.sandbox.bubblewrap.box import Box
from tumbler_backends.sandbox.bubblewrap.filesystem.layout import CONTROL_FOLDER
from tumbler_backends.sandbox.bubblewrap.processes.process import BubblewrapProcess
from tumbler_backends.sandbox.bubblewrap.processes.runner import Script

__all__ = ["Answer", "Shell"]

_NO_INPUT: Final = "/dev/null"
_LOOP: Final = (
    # 250: out of the way of descriptors that people use, and closed for the commands themselves.
    "exec 250<&0 </dev/null; __tumbler_file=$1; shift; "
    # Restore `$?`, unless `set -e` would take that for a failure.
    '__tumbler_last() { [[ $- == *e* ]] || builtin return "$1"; }; '
    "__tumbler_turn=0 __tumbler_interrupted= __tumbler_answering=; "
    # An interrupted command leaves all its loops, and with them this one: it goes on after its end. An answer is whole.
    "trap '[[ -n $__tumbler_answering ]] || { __tumbler_interrupted=130; builtin break 999 2>/dev/null; }' INT; "
    "__tumbler_loop='"
    # The answer stands before the command, so that a stray `break` or `continue` cannot skip it.
    "while :; do while __tumbler_status=${__tumbler_interrupted:-$?}; __tumbler_answering=1 __tumbler_interrupted=; "
    '{ builtin printf "%s\\0%s\\0%s\\0" "$__tumbler_turn" "$__tumbler_status" "$PWD"; '
    'builtin declare -px; builtin printf "\\0"; } >&250; '
    'IFS=" " builtin read -r -u 250 __tumbler_turn __tumbler_output __tumbler_input || builtin exit 0; '
    f'IFS= builtin read -r -d "" __tumbler_command <{CONTROL_FOLDER}/"$__tumbler_file"; '
    f'do {{ [[ $__tumbler_input == {_NO_INPUT} ]] || builtin printf "%s\\0on\\0\\0\\0" "$__tumbler_turn" >&250; '
    '__tumbler_answering=; __tumbler_last "$__tumbler_status"; builtin eval "$__tumbler_command" 250>&-; } '
    f'<"$__tumbler_input" >{CONTROL_FOLDER}/"$__tumbler_output"o 2>{CONTROL_FOLDER}/"$__tumbler_output"e; done; done; '
    'builtin eval "$__tumbler_loop"\'; '
    'builtin eval "$__tumbler_loop"'
)
_FIELDS: Final = 4
_OPENED: Final = b"on"
"""In place of a status: the command has its stdin open."""
_STATUS_DIGITS: Final = 3
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

    def __init__(self, process: BubblewrapProcess, commands: int) -> None:
        """Take over a process made by `start`, and the descriptor of its command file."""
        self.process = process
        self._commands = commands
        self._turn = 0
        self._heard = bytearray()
        self._opened: Callable[[], None] | None = None
        self._answer: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        process.listen(self._hear)
        process.exited.add_done_callback(self._end)

    @classmethod
    async def start(cls, box: Box) -> "Shell":
        """Start bash and wait until it takes commands."""
        number = box.number()
        commands = box.layout.control / f"{number}c"
        descriptor = os.open(commands, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        words = ["bash", "--norc", "--noprofile", "-c", _LOOP, "bash", commands.name]
        script = Script(box.layout.control, number, f"exec {shlex.join(words)}\n")
        try:
            process = await box.start({})
            shell = cls(process, descriptor)
        except BaseException:
            os.close(descriptor)
            script.remove()
            raise
        process.send(script.word)
        try:
            if not await shell.comes_up(box.spec.startup_timeout):
                box.require()
                raise SandboxStartFailed(f"no bash in sandbox {box.name}; {process.diagnosed()}", "create")
        finally:
            script.remove()
        return shell

    async def comes_up(self, timeout: float) -> bool:
        """Wait for bash's first word; kill it and return False where it does not come in `timeout` seconds."""
        try:
            await asyncio.wait((self._answer,), timeout=timeout)
        except BaseException:
            self.process.kill()
            raise
        if self._answer.done() and self._answer.result() is not None:
            return True
        await self.process.killed()
        return False

    def run(
        self, command: bytes, output: int, opened: Callable[[], None] | None = None
    ) -> "asyncio.Future[Answer | None]":
        """Run a command with its output going to the pipes of number `output`; the answer is None if bash itself ended.

        With `opened`, its stdin is the pipe of that number, and `opened` is called once the command has it.
        """
        self._turn += 1
        self._answer = asyncio.get_running_loop().create_future()
        if self.process.exited.done():
            self._answer.set_result(None)
            return self._answer
        self._opened = opened
        # What an earlier, longer command left after the NUL is not read.
        text = command + b"\0"
        if os.pwrite(self._commands, text, 0) < len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        stdin = _NO_INPUT if opened is None else f"{CONTROL_FOLDER}/{output}i"
        self.process.send(f"{self._turn} {output} {stdin}\n".encode())
        return self._answer

    def interrupt(self) -> None:
        """Send SIGINT to bash and to what it runs. Background commands of a shell like this one ignore it."""
        if not self._answer.done():
            self.process.signal(signal.SIGINT)

    def _hear(self, words: bytes) -> None:
        self._heard += words
        if b"\0" in words:
            # All at once, for commands may forge answers without end.
            fields = bytes(self._heard).split(b"\0")
            whole = (len(fields) - 1) // _FIELDS * _FIELDS
            self._heard[:] = b"\0".join(fields[whole:])
            for begin in range(0, whole, _FIELDS):
                self._judge(*fields[begin : begin + _FIELDS])
        if len(self._heard) > _MAX_ANSWER_BYTES:  # no bash says that much: the commands forge answers
            self.process.kill()

    def _judge(self, turn: bytes, status: bytes, cwd: bytes, exports: bytes) -> None:
        if turn != b"%d" % self._turn:  # an answer to anything else is forged, or late
            return
        if status == _OPENED and self._opened is not None:
            self._opened()
        elif status.isdigit() and len(status) <= _STATUS_DIGITS:
            self._settle(Answer(status=int(status), cwd=cwd, exports=exports))

    def _end(self, _: "asyncio.Future[int]") -> None:
        os.close(self._commands)
        self._settle(None)

    def _settle(self, answer: Answer | None) -> None:
        if not self._answer.done():
            self._answer.set_result(answer)
