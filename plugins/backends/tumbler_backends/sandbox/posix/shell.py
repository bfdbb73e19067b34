"""One bash process in a cloud's sandbox that runs commands one after another; knows no time-outs and no restarts.

Control and output never mix: bash is told over its stdin which command to run, answers on its stdout with the exit
status, the working directory and the exported variables, and each command speaks through a channel's pipes. The key
that marks the end of a command's output reaches bash only after the command. Commands see what `bash -c` gives them:
messages begin with `bash: line N: `, N counting from 1 in each command.
"""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Final

from tumbler.contracts.sandbox_process import ProcessExit
from tumbler_backends.sandbox.posix.channel import Channel
from tumbler_backends.sandbox.posix.launched import LaunchedProcess
from tumbler_backends.sandbox.posix.spawner import Spawner

__all__ = ["Answer", "Shell"]

_LOOP: Final = (
    # 250 and up: out of the way of descriptors that people use, and closed for the commands themselves.
    "exec 250<&0 251>&1 </dev/null >/dev/null 2>&1; __tumbler_folder=$1; shift; "
    'mkdir -p -m 700 "$__tumbler_folder"; '
    # Restore `$?`, unless `set -e` would take that for a failure.
    '__tumbler_last() { [[ $- == *e* ]] || builtin return "$1"; }; '
    "__tumbler_turn=0 __tumbler_output= __tumbler_interrupted= __tumbler_answering=; "
    # An interrupted command leaves all its loops, and with them this one: it goes on after its end. An answer is whole.
    "trap '[[ -n $__tumbler_answering ]] || { __tumbler_interrupted=130; builtin break 999 2>/dev/null; }' INT; "
    "__tumbler_loop='"
    # The answer stands before the command, so that a stray `break` or `continue` cannot skip it.
    "while :; do while __tumbler_status=${__tumbler_interrupted:-$?}; __tumbler_answering=1 __tumbler_interrupted=; "
    "if [[ -n $__tumbler_output ]]; then IFS= builtin read -r -u 250 __tumbler_key; "
    'builtin printf "\\0%s:end\\0" "$__tumbler_key" >&252; builtin printf "\\0%s:end\\0" "$__tumbler_key" >&253; '
    "command exec 252>&- 253>&-; builtin unset __tumbler_key; fi; "
    # One by one: what a DEBUG trap says goes where the shell's own output goes, which is nowhere.
    'builtin printf "%s\\0%s\\0%s\\0" "$__tumbler_turn" "$__tumbler_status" "$PWD" >&251; '
    'builtin declare -px >&251; builtin printf "\\0" >&251; '
    'IFS=" " builtin read -r -u 250 __tumbler_turn __tumbler_output __tumbler_input || builtin exit 0; '
    'IFS= builtin read -r -d "" -u 250 __tumbler_command; '
    "__tumbler_output=$__tumbler_folder/$__tumbler_output; [[ -p ${__tumbler_output}e ]] || "
    'builtin command -p mkfifo "${__tumbler_output}o" "${__tumbler_output}e"; '
    '[[ $__tumbler_input != */*i || -p $__tumbler_input ]] || builtin command -p mkfifo "$__tumbler_input"; '
    'command exec 252>"${__tumbler_output}o" 253>"${__tumbler_output}e"; '
    'do __tumbler_answering=; __tumbler_last "$__tumbler_status"; builtin eval "$__tumbler_command" '
    '<"$__tumbler_input" >&252 2>&253 250<&- 251>&- 252>&- 253>&-; done; done; '
    'builtin eval "$__tumbler_loop"\'; '
    'builtin eval "$__tumbler_loop"'
)
_FIELDS: Final = 4
_MAX_ANSWER_BYTES: Final = 16 << 20
_PIECE: Final = 1 << 20
_WAIT_S: Final = 3600.0
_END_S: Final = 10.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What bash says after a command."""

    status: int
    cwd: bytes
    exports: bytes
    """Shell text that sets the exported variables."""


class Shell:
    """A running bash. Commands must be run one at a time."""

    def __init__(self, process: LaunchedProcess) -> None:
        """Take over a process made by `start`."""
        self.process = process
        self._turn = 0
        self._heard = bytearray()
        self._answer: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self._listening = asyncio.get_running_loop().create_task(self._listen())

    @classmethod
    async def start(cls, spawner: Spawner, folder: str) -> "Shell":
        """Start bash, with its pipes in `folder`; the first command waits until it is ready."""
        words = ["bash", "--norc", "--noprofile", "-c", _LOOP, "bash", folder]
        return cls(await spawner.launch(words, stdin=True))

    async def run(self, command: bytes, channel: Channel, given: str = "/dev/null") -> Answer | None:
        """Run a command that speaks through `channel` and reads `given`; None if bash itself ended."""
        if await self._answer is None:
            return None
        self._turn += 1
        self._answer = asyncio.get_running_loop().create_future()
        order = b"%d %d %s\n%s\0%s\n" % (self._turn, channel.number, given.encode(), command, channel.key.encode())
        with contextlib.suppress(BrokenPipeError):  # bash has ended: so does the wait for the answer
            await self.process.write_stdin(order)
        return await self._answer

    async def ended(self) -> ProcessExit:
        """Return how bash ended; raises what the sandbox died of."""
        return await self.process.wait(_END_S)

    async def close(self, grace: float) -> None:
        """End bash and all that it started."""
        self._listening.cancel()
        self._settle(None)
        try:
            await self.process.kill_tree(grace)
        finally:
            await self.process.abandon()

    async def _listen(self) -> None:
        ring, offset = self.process.record.stdout, 0
        try:
            while True:
                piece = await ring.read(offset=offset, limit=_PIECE, timeout=_WAIT_S)
                self._hear(piece.data)
                offset = piece.offset + len(piece.data)
                if piece.end:
                    return
        finally:
            self._settle(None)

    def _hear(self, words: bytes) -> None:
        self._heard += words
        while (fields := bytes(self._heard).split(b"\0", _FIELDS))[_FIELDS:]:
            self._heard[:] = fields[_FIELDS]
            turn, status, cwd, exports = fields[:_FIELDS]
            if turn == b"%d" % self._turn and status.isdigit():  # anything else is forged, or late
                self._settle(Answer(status=int(status), cwd=cwd, exports=exports))
        if len(self._heard) > _MAX_ANSWER_BYTES:  # no bash says that much: the commands forge answers
            self._settle(None)

    def _settle(self, answer: Answer | None) -> None:
        if not self._answer.done():
            self._answer.set_result(answer)
