"""Run one command in namespaces of its own and wait for it."""

import errno
import posixpath
import time
from collections.abc import Mapping, Sequence
from typing import Final

from tumbler.contracts.sandbox import ExecResult
from tumbler_backends.sandbox.bubblewrap.box import Box
from tumbler_backends.sandbox.bubblewrap.capture import OutputPair
from tumbler_backends.sandbox.bubblewrap.layout import CONTROL_FOLDER
from tumbler_backends.sandbox.bubblewrap.process import BubblewrapProcess

__all__ = ["result_of", "run_command", "stop"]

_WRAPPER: Final = (
    'word=ready; cd -- "$1" 2>/dev/null || word=lost; unset OLDPWD; echo "$word" >&0; read -r go <&0 || exit 1; '
    'in=$2 out=$3 err=$4; shift 4; exec "$@" <"$in" >"$out" 2>"$err"'
)
"""Runs inside: reports, waits for leave, and becomes the command. The shell gives 126, 127 and their messages."""

_SIGNALS: Final = range(129, 193)
"""Exit codes that tell of a signal, as shells and bwrap report it."""


async def run_command(
    box: Box,
    command: str | Sequence[str],
    *,
    given: bytes | None,
    cwd: str | None,
    env: Mapping[str, str],
    timeout: float,
    max_output: int,
) -> ExecResult:
    """Run `command` to its end or to `timeout` seconds; up to `max_output` bytes of each stream are kept.

    `given` is what the command reads from stdin; None is nothing.
    """
    words = ["sh", "-c", command] if isinstance(command, str) else list(command)
    if not words or any("\0" in word for word in words):
        raise ValueError(f"a command needs at least one word, and no word may hold a NUL: {command!r}")
    box.require()
    with box.output(max_output) as (number, output):
        file = box.layout.control / f"{number}i"
        try:
            if given is not None:
                file.write_bytes(given)
            places = (
                posixpath.join(box.layout.workdir, cwd or "."),
                f"{CONTROL_FOLDER}/{file.name}" if given is not None else "/dev/null",
                *(f"{CONTROL_FOLDER}/{number}{stream}" for stream in "oe"),
            )
            return await _run(box, ["/bin/sh", "-c", _WRAPPER, "sh", *places, *words], env, timeout, output)
        except OSError as error:
            if error.errno != errno.E2BIG:
                raise
            return ExecResult(exit_code=126, stdout=b"", stderr=b"sh: Argument list too long\n", duration=0.0)
        finally:
            if given is not None:
                file.unlink(missing_ok=True)


async def stop(process: BubblewrapProcess, grace: float) -> None:
    """End a process: SIGTERM to all that runs inside, `grace` seconds, SIGKILL."""
    if grace > 0:
        process.terminate()
        await process.ended(grace)
    await process.killed()


def result_of(box: Box, exit_code: int, output: OutputPair, *, timed_out: bool, duration: float) -> ExecResult:
    """Return the result of what has ended after `duration` seconds, and count what befell it."""
    stdout, stderr, truncated = output.finish()
    box.host.metrics.timeouts += timed_out
    box.host.metrics.truncated_outputs += truncated
    return ExecResult(
        exit_code=exit_code,
        stdout=stdout,
        stderr=stderr,
        duration=duration,
        timed_out=timed_out,
        truncated=truncated,
        signal=exit_code - 128 if exit_code in _SIGNALS else None,
        oom=exit_code != 0 and box.ran_out_of_memory(),
    )


async def _run(
    box: Box, program: Sequence[str], env: Mapping[str, str], timeout: float, output: OutputPair
) -> ExecResult:
    process, word = await box.start(program, env)
    try:
        if word.startswith(b"lost"):
            raise FileNotFoundError(errno.ENOENT, "the working directory does not exist in the sandbox", program[4])
        began = time.perf_counter()
        process.send(b"go\n")
        timed_out = not await process.ended(timeout)
        if timed_out:
            await stop(process, box.host.settings.grace)
        await process.killed()
    finally:
        process.kill()
    box.require()
    box.host.metrics.commands += 1
    duration = time.perf_counter() - began
    return result_of(box, process.exited.result(), output, timed_out=timed_out, duration=duration)
