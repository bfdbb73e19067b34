"""The terminal of the person at the keyboard: raw mode, its size, and bytes in and out."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import termios
import tty
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Final

from tumbler.contracts.sandbox_process import Process, ProcessExit, Stream, TerminalSize

__all__ = ["converse", "raw", "size", "when_resized"]

_PIECE: Final = 1 << 16


@contextlib.contextmanager
def raw() -> Iterator[None]:
    """Pass every key on as it is; the terminal is as before at the end, whatever happens."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin.fileno())
    try:
        tty.setraw(sys.stdin.fileno())
        yield
    finally:
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, before)


def size() -> TerminalSize:
    """Return the terminal's size; 80 by 24 where there is none."""
    columns, rows = shutil.get_terminal_size()
    return TerminalSize(columns=columns, rows=rows)


@contextlib.contextmanager
def when_resized(act: Callable[[TerminalSize], Awaitable[None]]) -> Iterator[None]:
    """Tell `act` of each new size of the terminal."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Future[None]] = set()

    def changed() -> None:
        task = asyncio.ensure_future(_quietly(act(size())))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    loop.add_signal_handler(signal.SIGWINCH, changed)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)


async def converse(process: Process, *, stdin: bool) -> ProcessExit:
    """Pass the process's output on as it comes, and our standard input to it if it takes any; return its end."""
    typing = asyncio.ensure_future(_type(process)) if stdin else None
    try:
        await asyncio.gather(_show(process, "stdout", 1), _show(process, "stderr", 2))
        return await process.wait()
    finally:
        if typing is not None:
            typing.cancel()
            await asyncio.wait({typing})


async def _show(process: Process, stream: Stream, descriptor: int) -> None:
    async for piece in process.follow(stream):
        written = 0
        while written < len(piece):
            written += os.write(descriptor, piece[written:])


async def _type(process: Process) -> None:
    # A process that reads no more, or is gone, is no error of the one who types.
    with contextlib.suppress(OSError):
        async for piece in _input():
            await process.write_stdin(piece)
        await process.close_stdin()


async def _input() -> AsyncIterator[bytes]:
    descriptor = sys.stdin.fileno()
    while True:
        await _until_readable(descriptor)
        piece = os.read(descriptor, _PIECE)
        if not piece:
            return
        yield piece


async def _until_readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()
    try:
        loop.add_reader(descriptor, _settle, readable)
    except PermissionError:  # a regular file is always readable
        return
    try:
        await readable
    finally:
        loop.remove_reader(descriptor)


def _settle(readable: "asyncio.Future[None]") -> None:
    if not readable.done():
        readable.set_result(None)


async def _quietly(action: Awaitable[None]) -> None:
    with contextlib.suppress(OSError):  # the process may have ended
        await action
