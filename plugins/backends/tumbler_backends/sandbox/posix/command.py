"""Run one command to its end in a cloud's sandbox: input, limits, time-outs, exact output; knows no cloud."""

import asyncio
import errno
import os
import posixpath
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Final

from tumbler.contracts.sandbox import ExecResult
from tumbler.errors import ExecFailed, ExecTimeout, SandboxError
from tumbler_backends.sandbox.posix.launched import LaunchedProcess
from tumbler_backends.sandbox.posix.marks import Collector, Mark, MarkedStream
from tumbler_backends.sandbox.posix.output import OutputRing
from tumbler_backends.sandbox.posix.spawner import Spawner, words_of

__all__ = ["require_success", "run_command", "signal_of"]

_WRAPPER: Final = (
    "__tumbler_key=$2 __tumbler_limit=$3; "
    'cd -- "$1" 2>/dev/null || { printf "\\000%s:lost\\000" "$2" >&2; exit 1; }; unset OLDPWD; shift 3; '
    # dd writes what it reads at once, which head does not; but it counts reads, so it may take several to the limit.
    'limited() { trap "" TERM INT HUP; exec 6>&1; left=$__tumbler_limit copied=1; '
    'while [ "$left" -gt 0 ] && [ "$copied" -gt 0 ]; do size=65536; [ "$left" -gt "$size" ] || size=$left; '
    'copied=$(LC_ALL=C dd bs="$size" count=$((left / size)) 2>&1 >&6) || exit; '
    "copied=${copied%% byte*}; copied=${copied##*[!0-9]}; left=$((left - copied)); done; "
    '[ "$copied" -eq 0 ] || exec cat >/dev/null; }; '
    # The shell's own remarks, such as `Killed`, are not the command's.
    'exec 3>&1 4>&2 2>/dev/null; { { "$@" 2>&5 3>&- 4>&- 5>&-; '
    'printf "\\000%s:%s\\000" "$__tumbler_key" "$?" >&4; '
    'printf "\\000%s:end\\000" "$__tumbler_key" >&5; printf "\\000%s:end\\000" "$__tumbler_key"; } '
    "| limited >&3 3>&- 4>&- 5>&-; } 5>&1 | limited >&4 3>&- 4>&-"
)
"""Runs inside: lets no more output out than is kept, and says in both streams where the command's output ends, though
background children keep them open. The exit status comes on stderr, past the limit."""
_END: Final = b"end"
_LOST: Final = b"lost"
_ROOM: Final = 128
"""Bytes that are let out past the limit: one to tell that there was more, and a mark."""
_SIGNALS: Final = range(129, 193)
_PIECE: Final = 1 << 20
_QUIET_S: Final = 60.0
_REST_S: Final = 2.0
"""How long the streams of a killed command may take to end."""
_KILLED: Final = 137
_SHOWN_BYTES: Final = 2000


def signal_of(exit_code: int) -> int | None:
    """Return the signal that an exit code tells of, as shells report it."""
    return exit_code - 128 if exit_code in _SIGNALS else None


async def run_command(
    spawner: Spawner,
    command: str | Sequence[str],
    *,
    input: bytes | None = None,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 60.0,
    max_output: int = 10 << 20,
) -> ExecResult:
    """Run a command and wait for it; see `tumbler.contracts.sandbox.Sandbox.exec`. `require_success` is for `check`."""
    key = secrets.token_hex(16)
    place = posixpath.join(spawner.cloud.workdir, cwd or ".")
    words = ["/bin/sh", "-c", _WRAPPER, "sh", place, key, str(max_output + _ROOM), *words_of(command)]
    began = time.perf_counter()
    try:
        process = await spawner.launch(words, env=env, stdin=input is not None)
    except OSError as error:
        if error.errno != errno.E2BIG:
            raise
        return ExecResult(exit_code=126, stdout=b"", stderr=b"sh: Argument list too long\n", duration=0.0)
    run = _Run(process, key, max_output)
    try:
        exit_code, timed_out = await run.finish(input, timeout, spawner.grace)
    except FileNotFoundError as error:
        error.filename = cwd
        raise
    except BaseException:
        await process.kill_tree(0.0)
        raise
    finally:
        run.cancel()
        await process.abandon()
    return run.result(exit_code, timed_out=timed_out, duration=time.perf_counter() - began)


def require_success(command: str | Sequence[str], result: ExecResult, timeout: float) -> None:
    """Raise `ExecTimeout` or `ExecFailed` for a checked command that did not succeed."""
    if result.timed_out:
        raise ExecTimeout(f"{command!r} ran past {timeout} s; {_shown(result)}", result)
    if result.exit_code != 0:
        raise ExecFailed(f"{command!r} exited with {result.exit_code}; {_shown(result)}")


class _Lane:
    """One stream of a command, up to where its output ends."""

    def __init__(self, ring: OutputRing, key: str, limit: int) -> None:
        self.collector = Collector(limit)
        self.word: bytes | None = None
        """The exit status, or `lost`, where it has come."""
        self.cut = False
        """Whether more was said than was let out."""
        self._ring = ring
        self._marked = MarkedStream(key)
        self._left = limit + _ROOM
        self._ended = False

    async def collect(self, *, status: bool) -> None:
        """Return once the output is here, and with `status` also the exit status; or at the stream's end."""
        offset = 0
        while not (self._ended and (self.word is not None or not status)):
            piece = await self._ring.read(offset=offset, limit=_PIECE, timeout=_QUIET_S)
            self._skip(piece.offset - offset)
            for part in self._marked.feed(piece.data):
                self._take(part)
            offset = piece.offset + len(piece.data)
            if piece.end:
                self._take(self._marked.rest())
                return

    def _take(self, part: bytes | Mark) -> None:
        if isinstance(part, Mark) and part.word != _END:
            self.word = part.word
        elif isinstance(part, Mark):
            self._ended = True
        elif not self._ended:  # else a background child says it
            self.collector.take(part)
            self._left -= len(part)
            self.cut = self._ended = self._left <= _ROOM // 2

    def _skip(self, count: int) -> None:
        if not self._ended:
            self.collector.skip(count)
            self._left -= count


class _Run:
    """One command under way."""

    def __init__(self, process: LaunchedProcess, key: str, limit: int) -> None:
        """Begin to collect its output."""
        self._process = process
        loop = asyncio.get_running_loop()
        self._stdout = _Lane(process.record.stdout, key, limit)
        self._stderr = _Lane(process.record.stderr, key, limit)
        self._ends = [
            loop.create_task(self._stdout.collect(status=False)),
            loop.create_task(self._stderr.collect(status=True)),
        ]
        self._feeding: asyncio.Task[None] | None = None

    async def finish(self, given: bytes | None, timeout: float, grace: float) -> tuple[int, bool]:
        """Feed it, and wait for its end; return the exit code, and whether it was killed at its time-out."""
        if given is not None:
            self._feeding = asyncio.get_running_loop().create_task(_feed(self._process, given))
        _, running = await asyncio.wait(self._ends, timeout=timeout)
        if running:
            ended = await self._process.kill(grace)
            await asyncio.wait(self._ends, timeout=_REST_S)
            return self._status() or ended.exit_code or _KILLED, True
        if self._stderr.word == _LOST:
            raise FileNotFoundError(errno.ENOENT, "the working directory does not exist in the sandbox")
        status = self._status()
        if status is None:  # its own shell was killed, or all is gone
            status = (await self._process.wait(_QUIET_S)).exit_code
        return status, False

    def cancel(self) -> None:
        """End what is still waiting."""
        for task in (*self._ends, *((self._feeding,) if self._feeding is not None else ())):
            task.cancel()

    def result(self, exit_code: int, *, timed_out: bool, duration: float) -> ExecResult:
        """Return what it said."""
        stdout, stderr = self._stdout, self._stderr
        return ExecResult(
            exit_code=exit_code,
            stdout=stdout.collector.data,
            stderr=stderr.collector.data,
            duration=duration,
            timed_out=timed_out,
            truncated=bool(stdout.collector.dropped or stderr.collector.dropped),
            signal=signal_of(exit_code),
            # What stayed inside was not counted.
            stdout_dropped=0 if stdout.cut else stdout.collector.dropped,
            stderr_dropped=0 if stderr.cut else stderr.collector.dropped,
        )

    def _status(self) -> int | None:
        word = self._stderr.word
        return int(word) if word is not None and word.isdigit() else None


async def _feed(process: LaunchedProcess, given: bytes) -> None:
    try:
        for start in range(0, len(given), _PIECE):
            await process.write_stdin(given[start : start + _PIECE])
        await process.close_stdin()
    except (BrokenPipeError, SandboxError):  # a command need not read its input; a lost sandbox shows at its output
        return


def _shown(result: ExecResult) -> str:
    stdout, stderr = (os.fsdecode(stream[-_SHOWN_BYTES:]) for stream in (result.stdout, result.stderr))
    return f"stdout ends {stdout!r}, stderr ends {stderr!r}"
