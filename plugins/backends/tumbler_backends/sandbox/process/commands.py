"""Run one command in a box and wait for it; knows no spawned processes."""

import asyncio
import time
from collections.abc import Mapping, Sequence

from tumbler.contracts.sandbox import ExecResult
from tumbler_backends.sandbox.posix.marks import Collector
from tumbler_backends.sandbox.posix.spawner import words_of
from tumbler_backends.sandbox.process.box import Box, BoxProgram
from tumbler_backends.sandbox.process.launch import NotStarted

__all__ = ["exit_of", "run_command"]

_PIECE = 1 << 16


def exit_of(code: int) -> tuple[int, int | None]:
    """Return the exit code and signal of what `subprocess` reports."""
    return (128 - code, -code) if code < 0 else (code, None)


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
    """Run a command to its end or its time-out; the first `max_output` bytes of each stream are kept."""
    stdout, stderr = Collector(max_output), Collector(max_output)
    began = time.perf_counter()
    timed_out = False
    try:
        sinks = (stdout.take, stderr.take)
        started = box.start(words_of(command), cwd=cwd, env=env, stdin=given is not None, sinks=sinks)
    except NotStarted as refused:
        return ExecResult(exit_code=refused.exit_code, stdout=b"", stderr=str(refused).encode(), duration=0.0)
    feeding = asyncio.get_running_loop().create_task(_feed(started, given)) if given is not None else None
    try:
        timed_out = not await started.program.ended(timeout)
        if timed_out:
            await started.kill()
    except BaseException:
        await started.kill(0.0)
        raise
    finally:
        if feeding is not None:
            feeding.cancel()
    exit_code, number = exit_of(started.program.exited.result())
    box.require()
    return ExecResult(
        exit_code=exit_code,
        stdout=stdout.data,
        stderr=stderr.data,
        duration=time.perf_counter() - began,
        timed_out=timed_out,
        truncated=bool(stdout.dropped or stderr.dropped),
        signal=number,
        stdout_dropped=stdout.dropped,
        stderr_dropped=stderr.dropped,
    )


async def _feed(started: BoxProgram, given: bytes) -> None:
    stdin = started.program.stdin
    if stdin is None:
        return
    try:
        for begin in range(0, len(given), _PIECE):
            await stdin.write(given[begin : begin + _PIECE])
    except (BrokenPipeError, TimeoutError):  # a command need not read its input
        return
    finally:
        stdin.close()
