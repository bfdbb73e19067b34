"""Run one command in a container and wait for it."""

import asyncio
import contextlib
import errno
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tumbler.contracts.sandbox import ExecResult
from tumbler_backends.sandbox.docker.box import Box
from tumbler_backends.sandbox.docker.capturing import Kept, PipeReader
from tumbler_backends.sandbox.docker.launching import Ending
from tumbler_backends.sandbox.docker.place import Started

__all__ = ["Output", "given_stream", "kill_quietly", "result_of", "run_command", "words_of"]

_SIGNALS: Final = range(129, 193)
"""Exit codes that tell of a signal, as shells report it."""


class Output:
    """The pipes of one command's stdout and stderr, and what came out of them."""

    def __init__(self, descriptors: Sequence[int], limit: int) -> None:
        """Take over the reading ends; keep `limit` bytes of each."""
        self.kept = (Kept(limit), Kept(limit))
        self.readers = tuple(
            PipeReader(descriptor, kept.feed) for descriptor, kept in zip(descriptors, self.kept, strict=True)
        )

    def finish(self, box: Box) -> tuple[Kept, Kept]:
        """Return what has arrived; what left-over children send from now on is read and dropped."""
        for reader in self.readers:
            reader.drain()
        box.leave(self.readers)
        return self.kept

    def close(self) -> None:
        """Stop reading."""
        for reader in self.readers:
            reader.close()


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
    """Run `command` to its end or to `timeout` seconds; up to `max_output` bytes of each stream are kept."""
    words = words_of(command)
    box.require()
    began = time.perf_counter()
    with given_stream(given) as stdin, contextlib.closing(_Pipes()) as pipes:
        started = await box.start(words, (stdin, *pipes.writing), cwd=cwd, env=env)
        output = Output(pipes.take(), max_output)
    try:
        ending = await box.ended(started, timeout)
        timed_out = ending is None
        if ending is None:
            ending = await box.stop(started)
        kept = output.finish(box)
    except BaseException:
        output.close()
        await kill_quietly(started)
        raise
    await started.release()
    box.commands += 1
    return result_of(box, ending, kept, timed_out=timed_out, duration=time.perf_counter() - began)


def words_of(command: str | Sequence[str]) -> list[str]:
    """Return the words of a command; a string is the shell's."""
    words = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
    if not words or any("\0" in word for word in words):
        raise ValueError(f"a command needs at least one word, and no word may hold a NUL: {command!r}")
    return words


@contextlib.contextmanager
def given_stream(given: bytes | None) -> Iterator[int]:
    """Yield a descriptor to read `given` from; it is at its end for None."""
    if given is None:
        descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    else:
        descriptor = os.memfd_create("tumbler-input", os.MFD_CLOEXEC)
    try:
        rest = memoryview(given or b"")
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        if given is not None:
            os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def result_of(box: Box, ending: Ending, kept: tuple[Kept, Kept], *, timed_out: bool, duration: float) -> ExecResult:
    """Return the result of what has ended after `duration` seconds."""
    stdout, stderr = kept
    return ExecResult(
        exit_code=ending.code,
        stdout=stdout.data,
        stderr=stderr.data,
        duration=duration,
        timed_out=timed_out,
        truncated=stdout.dropped > 0 or stderr.dropped > 0,
        signal=ending.code - 128 if ending.code in _SIGNALS else None,
        oom=ending.code != 0 and box.ran_out_of_memory(),
        stdout_dropped=stdout.dropped,
        stderr_dropped=stderr.dropped,
        cpu_seconds=ending.cpu_seconds,
        max_rss_bytes=ending.max_rss_bytes,
    )


async def kill_quietly(started: Started) -> None:
    """Kill a command whose outcome nobody will hear, also when this task is being cancelled."""
    killing = asyncio.ensure_future(started.kill())
    with contextlib.suppress(asyncio.CancelledError, OSError):
        await asyncio.shield(killing)


class _Pipes:
    """Pipes for stdout and stderr."""

    def __init__(self) -> None:
        self._open: list[int] = []
        try:
            for _ in "oe":
                self._open += os.pipe2(os.O_CLOEXEC)
        except OSError as error:
            self.close()
            raise OSError(
                error.errno or errno.EMFILE, "no pipes for a command: raise the limit on open files"
            ) from error

    @property
    def writing(self) -> tuple[int, int]:
        return self._open[1], self._open[3]

    def take(self) -> tuple[int, int]:
        """Hand the reading ends over."""
        reading = self._open[0], self._open[2]
        self._open = [self._open[1], self._open[3]]
        return reading

    def close(self) -> None:
        for descriptor in self._open:
            os.close(descriptor)
        self._open = []
