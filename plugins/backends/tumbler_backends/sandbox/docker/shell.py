"""One bash process that runs commands one after another; knows no time-outs and no restarts.

Control and output never mix: bash is told over a pipe what to run and answers over another one with the exit status,
the working directory and the exported variables, and each command has named pipes of its own for its output. Commands
see what `bash -c` gives them: messages begin with `bash: line N: `, N counting from 1 in each command.
"""

import asyncio
import os
from dataclasses import dataclass
from typing import Final

from tumbler.errors import SandboxDied, SandboxStartFailed
from tumbler_backends.sandbox.docker.box import Box
from tumbler_backends.sandbox.docker.capturing import PipeReader
from tumbler_backends.sandbox.docker.hardening import CONTROL_FOLDER
from tumbler_backends.sandbox.docker.place import Started
from tumbler_backends.sandbox.posix.input import InputWriter

__all__ = ["Answer", "Shell"]

_LOOP: Final = (
    # 250 and 251: out of the way of descriptors that people use, and closed for the commands themselves.
    "exec 250<&0 251>&1 </dev/null >/dev/null; "
    # Restore `$?`, unless `set -e` would take that for a failure.
    '__tumbler_last() { [[ $- == *e* ]] || builtin return "$1"; }; '
    "__tumbler_turn=0 __tumbler_interrupted= __tumbler_answering=; "
    # An interrupted command leaves all its loops, and with them this one: it goes on after its end. An answer is whole.
    "trap '[[ -n $__tumbler_answering ]] || { __tumbler_interrupted=130; builtin break 999 2>/dev/null; }' INT; "
    "__tumbler_loop='"
    # The answer stands before the command, so that a stray `break` or `continue` cannot skip it.
    "while :; do while __tumbler_status=${__tumbler_interrupted:-$?}; __tumbler_answering=1 __tumbler_interrupted=; "
    '{ builtin printf "%s\\0%s\\0%s\\0" "$__tumbler_turn" "$__tumbler_status" "$PWD"; '
    'builtin declare -px; builtin printf "\\0"; } >&251; '
    'IFS=" " builtin read -r -u 250 __tumbler_turn __tumbler_output __tumbler_input || builtin exit 0; '
    'IFS= builtin read -r -d "" -u 250 __tumbler_command || builtin exit 0; '
    'do __tumbler_answering=; __tumbler_last "$__tumbler_status"; '
    'builtin eval "$__tumbler_command" <"$__tumbler_input" '
    f'>{CONTROL_FOLDER}/"$__tumbler_output"o 2>{CONTROL_FOLDER}/"$__tumbler_output"e 250>&- 251>&-; done; done; '
    'builtin eval "$__tumbler_loop"\'; '
    'builtin eval "$__tumbler_loop"'
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

    def __init__(self, box: Box, started: Started, commands: int, answers: int) -> None:
        """Take over a process made by `start`, and its two pipes."""
        self.started = started
        self._box = box
        self._commands = InputWriter(commands)
        self._turn = 0
        self._heard = bytearray()
        self._answer: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self._answers = PipeReader(answers, self._hear)
        started.ended.add_done_callback(lambda _: self.close())

    @classmethod
    async def start(cls, box: Box) -> "Shell":
        """Start bash and wait until it takes commands."""
        commands_in, commands = os.pipe2(os.O_CLOEXEC)
        answers, answers_out = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(commands, False)
        nothing = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            words = ["bash", "--norc", "--noprofile", "-c", _LOOP, "bash"]
            started = await box.start(words, (commands_in, answers_out, nothing))
        except BaseException:
            os.close(commands)
            os.close(answers)
            raise
        finally:
            for descriptor in (commands_in, answers_out, nothing):
                os.close(descriptor)
        shell = cls(box, started, commands, answers)
        try:
            async with asyncio.timeout(box.spec.startup_timeout):
                ready = await box.guarded(asyncio.shield(shell._answer))
        except BaseException as error:
            await started.kill()
            if isinstance(error, TimeoutError):
                raise SandboxStartFailed(f"bash in sandbox {box.id} did not start in time", "session") from error
            raise
        if ready is None:
            box.require()
            code = started.ended.result().code if started.ended.done() else None
            missing = "; sessions need bash in the image" if code == 127 else ""
            raise SandboxDied(f"the shell in sandbox {box.id} ended at its start with {code}{missing}")
        return shell

    async def run(self, command: bytes, output: int, given: str = "/dev/null") -> Answer | None:
        """Run a command with its output going to the pipes of number `output`; None if bash itself ended."""
        self._turn += 1
        self._answer = asyncio.get_running_loop().create_future()
        try:
            await self._commands.write(b"%d %d %s\n" % (self._turn, output, os.fsencode(given)) + command + b"\0")
        except BrokenPipeError:
            return None
        return await self._answer

    def close(self) -> None:
        """Close the pipes; who waits for an answer gets None. Safe to call twice."""
        self._answers.drain()
        self._answers.close()
        self._commands.close()
        self._settle(None)

    def _hear(self, words: bytes) -> None:
        self._heard += words
        while (fields := bytes(self._heard).split(b"\0", _FIELDS))[_FIELDS:]:
            self._heard[:] = fields[_FIELDS]
            turn, status, cwd, exports = fields[:_FIELDS]
            if turn == b"%d" % self._turn and status.isdigit():  # an answer to anything else is forged, or late
                self._settle(Answer(status=int(status), cwd=cwd, exports=exports))
        if len(self._heard) > _MAX_ANSWER_BYTES:  # no bash says that much: the commands forge answers
            self.close()

    def _settle(self, answer: Answer | None) -> None:
        if not self._answer.done():
            self._answer.set_result(answer)
