"""A server's process and all that it starts, from the first to the last; knows nothing of what they say."""

import asyncio
import contextlib
import os
import signal
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

__all__ = ["ServerProcess"]

_INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")
_MARK: Final = "TUMBLER_MCP_SERVER"
_LINE_BYTES: Final = 32 << 20
_UNREAD_BYTES: Final = 64 << 20
_LAST_WORDS: Final = 2000
_GRACE_S: Final = 1.0
_POLL_S: Final = 0.02
_SWEEPS: Final = 20


class ServerProcess:
    """One process in a session of its own, with a mark in its environment that all its descendants carry.

    The mark finds those that left the process group; only what clears its environment, too, is out of reach.
    """

    def __init__(self, process: asyncio.subprocess.Process, mark: str) -> None:
        """Take over a process that `start` made."""
        self._process = process
        self._mark = mark
        self._said = bytearray()
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, command: Sequence[str], variables: Mapping[str, str], cwd: str | None) -> "ServerProcess":
        """Start a program with few variables; raises the builtin `OSError` classes."""
        mark = uuid.uuid4().hex
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**inherited, **variables, _MARK: mark},
            cwd=cwd,
            start_new_session=True,
            limit=_LINE_BYTES,
        )
        return cls(process, mark)

    @property
    def exit_code(self) -> int | None:
        """Return how it ended, negative for a signal; None while it runs."""
        return self._process.returncode

    @property
    def last_words(self) -> str:
        """Return the end of what it wrote to its standard error."""
        return self._said.decode("utf-8", "replace").strip()

    async def read_line(self) -> bytes:
        """Return its next line of output, empty at the end; raises `ValueError` for one past any measure."""
        assert self._process.stdout is not None
        return await self._process.stdout.readline()

    def write(self, data: bytes) -> None:
        """Send it bytes without waiting until it reads them; raises `BrokenPipeError` once it reads none any more."""
        assert self._process.stdin is not None
        pipe = self._process.stdin
        if pipe.is_closing() or pipe.transport.get_write_buffer_size() > _UNREAD_BYTES:
            raise BrokenPipeError("the server does not read its input")
        pipe.write(data)

    async def exited(self, within: float | None = None) -> bool:
        """Wait until the process itself has ended, whoever still holds its pipes; tell whether it has."""
        loop = asyncio.get_running_loop()
        deadline = None if within is None else loop.time() + within
        while self._process.returncode is None:
            if deadline is not None and loop.time() >= deadline:
                return False
            await asyncio.sleep(_POLL_S)
        return True

    async def end(self) -> None:
        """End it and all that it started: its input is closed, then SIGTERM, then SIGKILL, each after a grace.

        A cancellation skips the graces.
        """
        try:
            assert self._process.stdin is not None
            self._process.stdin.close()
            if not await self.exited(_GRACE_S):
                self._signal_group(signal.SIGTERM)
                await self.exited(_GRACE_S)
        finally:
            self._kill()
        await self.exited(_GRACE_S)
        for _sweep in range(_SWEEPS):  # a process may have been forking while the others were killed
            if not self._kill():
                break
            await asyncio.sleep(_POLL_S)
        self._listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._listening
        # asyncio closes it once all pipes are closed, which a process out of reach may prevent.
        transport = getattr(self._process, "_transport", None)
        if transport is not None:
            transport.close()

    async def _listen(self) -> None:
        assert self._process.stderr is not None
        while piece := await self._process.stderr.read(1 << 16):
            self._said += piece
            del self._said[:-_LAST_WORDS]

    def _kill(self) -> bool:
        """Kill all that is left, at once; tell whether there was anything."""
        self._signal_group(signal.SIGKILL)
        strays = _marked(f"{_MARK}={self._mark}".encode())
        for stray in strays:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(stray, signal.SIGKILL)
        return bool(strays)

    def _signal_group(self, number: int) -> None:
        # Once the process is reaped, the number of its group may be another one's.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)


def _marked(mark: bytes) -> list[int]:
    """Return the processes that carry the mark, where the system tells; zombies have no environment any more."""
    proc = Path("/proc")
    found: list[int] = []
    for entry in proc.iterdir() if proc.is_dir() else ():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found
