"""Sessions and processes without `async`; see their protocols for what each method promises."""

from collections.abc import Iterator
from types import TracebackType
from typing import Self

from tumbler.contracts.sandbox import ExecResult, Session
from tumbler.contracts.sandbox_process import (
    InteractiveSession,
    OutputSlice,
    Process,
    ProcessExit,
    Stream,
    TerminalSize,
)
from tumbler.errors import CapabilityError
from tumbler.sandboxes.background import BackgroundLoop

__all__ = ["SyncProcess", "SyncSession"]


class SyncSession:
    """A `Session`; as a context manager it is closed at the end."""

    def __init__(self, session: Session, loop: BackgroundLoop) -> None:
        """Take over a session that lives in `loop`."""
        self._session, self._loop = session, loop

    def __enter__(self) -> Self:
        """Return the session itself."""
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def run(self, command: str, *, timeout: float = 60.0, max_output: int = 1 << 20) -> ExecResult:
        """Run one shell command."""
        return self._loop.run(self._session.run(command, timeout=timeout, max_output=max_output))

    def start(self, command: str, *, timeout: float = 60.0, max_output: int = 1 << 20) -> None:
        """Start a command whose stdin stays open."""
        self._loop.run(self._interactive.start(command, timeout=timeout, max_output=max_output))

    def send(self, data: bytes) -> None:
        """Send bytes to the running command's stdin."""
        self._loop.run(self._interactive.send(data))

    def expect(self, pattern: bytes, *, timeout: float = 60.0) -> bytes:
        """Wait until the pattern occurs in the started command's stdout."""
        return self._loop.run(self._interactive.expect(pattern, timeout=timeout))

    def interrupt(self) -> None:
        """Send SIGINT to the running command."""
        self._loop.run(self._interactive.interrupt())

    def finish(self) -> ExecResult:
        """End the started command's stdin and wait for its result."""
        return self._loop.run(self._interactive.finish())

    def close(self) -> None:
        """End the shell and all that it started."""
        self._loop.run(self._session.close())

    @property
    def _interactive(self) -> InteractiveSession:
        if not isinstance(self._session, InteractiveSession):
            raise CapabilityError(f"{type(self._session).__name__} is no interactive session: use its `run`")
        return self._session


class SyncProcess:
    """A `Process`."""

    def __init__(self, process: Process, loop: BackgroundLoop) -> None:
        """Take over a process that lives in `loop`."""
        self._process, self._loop = process, loop

    @property
    def exec_id(self) -> str:
        """Return the id it was spawned under."""
        return self._process.exec_id

    @property
    def pid(self) -> int | None:
        """Return the process id as the backend knows it; None where it tells none."""
        return self._process.pid

    def read(
        self, stream: Stream = "stdout", *, offset: int = 0, limit: int = 1 << 16, timeout: float = 60.0
    ) -> OutputSlice:
        """Return what the stream holds from byte `offset` on."""
        return self._loop.run(self._process.read(stream, offset=offset, limit=limit, timeout=timeout))

    def follow(self, stream: Stream = "stdout", *, offset: int = 0) -> Iterator[bytes]:
        """Yield the stream from byte `offset` on until it ends."""
        return self._loop.iterate(self._process.follow(stream, offset=offset))

    def write_stdin(self, data: bytes) -> None:
        """Send bytes to its standard input."""
        self._loop.run(self._process.write_stdin(data))

    def close_stdin(self) -> None:
        """End its standard input."""
        self._loop.run(self._process.close_stdin())

    def signal(self, number: int) -> None:
        """Send a signal to the process and its children."""
        self._loop.run(self._process.signal(number))

    def resize(self, size: TerminalSize) -> None:
        """Set the size of its terminal."""
        self._loop.run(self._process.resize(size))

    def poll(self) -> ProcessExit | None:
        """Return how it ended; None while it runs."""
        return self._loop.run(self._process.poll())

    def wait(self, timeout: float | None = None) -> ProcessExit:
        """Wait for its end."""
        return self._loop.run(self._process.wait(timeout))

    def kill(self) -> ProcessExit:
        """End it and all its children."""
        return self._loop.run(self._process.kill())
