"""Run one command in namespaces of its own and wait for it."""

import errno
import posixpath
import time
from collections.abc import Mapping, Sequence
from typing import Final

from tumbler.contracts.sandbox import ExecResult
from tumbler.errors import SandboxDied
from tumbler_backends.sandbox.bubblewrap.box import Box
from tumbler_backends.sandbox.bubblewrap.filesystem.layout import CONTROL_FOLDER
from tumbler_backends.sandbox.bubblewrap.processes.pipes import OutputPair
from tumbler_backends.sandbox.bubblewrap.processes.process import BubblewrapProcess, ProcessUsage
from tumbler_backends.sandbox.bubblewrap.processes.runner import LOST, MOST_SAID, Script, command_text

__all__ = ["lost_folder", "require_unstruck", "result_of", "run_command", "signal_of", "words_of"]

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
    words = words_of(command)
    folder = posixpath.join(box.layout.workdir, cwd or ".")
    box.require()
    with box.output(max_output) as (number, output):
        file = box.layout.control / f"{number}i"
        stdin = "/dev/null" if given is None else f"{CONTROL_FOLDER}/{file.name}"
        script = Script(box.layout.control, number, command_text(words, folder, number, stdin))
        try:
            if given is not None:
                file.write_bytes(given)
            return await _run(box, script, folder, env, timeout, output)
        finally:
            script.remove()
            if given is not None:
                file.unlink(missing_ok=True)


def words_of(command: str | Sequence[str]) -> list[str]:
    """Return the words of a command; raise `ValueError` for what is none."""
    words = ["sh", "-c", command] if isinstance(command, str) else list(command)
    if not words or any("\0" in word for word in words):
        raise ValueError(f"a command needs at least one word, and no word may hold a NUL: {command!r}")
    return words


def lost_folder(folder: str) -> FileNotFoundError:
    """Return the error for a working directory that is not there."""
    return FileNotFoundError(errno.ENOENT, "the working directory does not exist in the sandbox", folder)


def signal_of(exit_code: int) -> int | None:
    """Return the signal that an exit code tells of."""
    return exit_code - 128 if exit_code in _SIGNALS else None


def require_unstruck(box: Box, process: BubblewrapProcess) -> None:
    """Raise `SandboxDied` where the sandbox is gone, or somebody outside of it killed the process."""
    box.require()
    if process.struck is not None:
        raise SandboxDied(
            f"bwrap in sandbox {box.name} was killed from outside with signal {process.struck}, and the command with "
            "it; the sandbox goes on (where this machine is short of memory, lower the sandboxes' limits)",
            "killed",
        )


def result_of(
    box: Box,
    exit_code: int,
    output: OutputPair,
    *,
    timed_out: bool,
    duration: float,
    kills_before: int,
    usage: ProcessUsage | None = None,
) -> ExecResult:
    """Return the result of what has ended after `duration` seconds, and count what befell it.

    `kills_before` is what `box.out_of_memory_kills` said before it: of commands that fail while another
    one's memory runs out, each is called `oom`.
    """
    stdout, stderr = output.stdout.finish(), output.stderr.finish()
    dropped = output.stdout.dropped, output.stderr.dropped
    box.host.metrics.timeouts += timed_out
    box.host.metrics.truncated_outputs += any(dropped)
    return ExecResult(
        exit_code=exit_code,
        stdout=stdout,
        stderr=stderr,
        duration=duration,
        timed_out=timed_out,
        truncated=any(dropped),
        signal=signal_of(exit_code),
        oom=exit_code != 0 and box.out_of_memory_kills() > kills_before,
        stdout_dropped=dropped[0],
        stderr_dropped=dropped[1],
        cpu_seconds=usage.cpu_seconds if usage is not None else None,
        max_rss_bytes=usage.max_rss_bytes if usage is not None else None,
    )


async def _run(
    box: Box, script: Script, folder: str, env: Mapping[str, str], timeout: float, output: OutputPair
) -> ExecResult:
    process = await box.start(env)
    said = bytearray()
    try:
        kills = box.out_of_memory_kills()
        began = time.perf_counter()
        process.listen(lambda words: said.extend(words[: MOST_SAID - len(said)]))
        process.send(script.word)
        timed_out = not await box.clock.within(process.exited, timeout)
        if timed_out:
            await process.stop(box.host.settings.grace)
        await process.killed()
    finally:
        process.kill()
    require_unstruck(box, process)
    if LOST in said:
        raise lost_folder(folder)
    box.host.metrics.commands += 1
    return result_of(
        box,
        process.exited.result(),
        output,
        timed_out=timed_out,
        duration=time.perf_counter() - began,
        kills_before=kills,
        usage=process.usage,
    )
