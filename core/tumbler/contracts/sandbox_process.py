"""A sandbox's long-running processes: started once, watched and steered from anywhere, also after a disconnect.

These protocols extend `tumbler.contracts.sandbox.Sandbox`; a backend offers them by having the methods.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from tumbler.contracts.sandbox import ExecResult

__all__ = [
    "InteractiveSession",
    "OutputSlice",
    "Process",
    "ProcessExit",
    "ProcessInfo",
    "SpawningSandbox",
    "Stream",
    "TerminalSize",
]

Stream: TypeAlias = Literal["stdout", "stderr"]
"""A process with a terminal has all its output on `stdout`."""


@dataclass(frozen=True, kw_only=True)
class TerminalSize:
    """The size of a pseudo-terminal, in characters."""

    columns: int = 80
    rows: int = 24


@dataclass(frozen=True, kw_only=True)
class ProcessExit:
    """How a process ended."""

    exit_code: int
    """128 + n where it died of signal n."""
    signal: int | None = None
    oom: bool = False
    timed_out: bool = False
    """Whether it was killed because its time was over."""
    duration: float = 0.0
    """Seconds of wall time."""


@dataclass(frozen=True, kw_only=True)
class ProcessInfo:
    """One process that was spawned here and is running, or ended and not yet forgotten."""

    exec_id: str
    command: tuple[str, ...]
    pid: int | None = None
    """The process id as the backend knows it."""
    tag: str | None = None
    exit: ProcessExit | None = None
    """None while it runs."""


@dataclass(frozen=True, kw_only=True)
class OutputSlice:
    """A piece of one output stream."""

    data: bytes
    offset: int
    """Where `data` begins in the whole stream; beyond what was asked for where older output was thrown away."""
    end: bool
    """Whether the stream is closed and nothing follows `data`."""


@runtime_checkable
class Process(Protocol):
    """One spawned process. Every method may be called from any task, and again after a reconnect."""

    @property
    def exec_id(self) -> str:
        """Return the id it was spawned under."""
        ...

    @property
    def pid(self) -> int | None:
        """Return the process id as the backend knows it; None where it tells none."""
        ...

    async def read(
        self, stream: Stream = "stdout", *, offset: int = 0, limit: int = 1 << 16, timeout: float = 60.0
    ) -> OutputSlice:
        """Return what the stream holds from byte `offset` on; wait up to `timeout` seconds for the first byte.

        An empty slice without `end` means that nothing came in time. Reading takes nothing away.
        """
        ...

    def follow(self, stream: Stream = "stdout", *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield the stream from byte `offset` on until it ends."""
        ...

    async def write_stdin(self, data: bytes) -> None:
        """Send bytes to its standard input; raises `BrokenPipeError` once nobody can read them."""
        ...

    async def close_stdin(self) -> None:
        """End its standard input. Safe to call twice."""
        ...

    async def signal(self, number: int) -> None:
        """Send a signal to the process and its children; does nothing once it has ended."""
        ...

    async def resize(self, size: TerminalSize) -> None:
        """Set the size of its terminal; raises `CapabilityError` where it has none."""
        ...

    async def poll(self) -> ProcessExit | None:
        """Return how it ended; None while it runs."""
        ...

    async def wait(self, timeout: float | None = None) -> ProcessExit:
        """Wait for its end; raises `TimeoutError` after `timeout` seconds and leaves it running."""
        ...

    async def kill(self) -> ProcessExit:
        """End it and all its children: SIGTERM, a grace, SIGKILL. Safe to call twice."""
        ...


@runtime_checkable
class SpawningSandbox(Protocol):
    """A sandbox whose processes may outlive the call that starts them."""

    async def spawn(
        self,
        command: str | Sequence[str],
        *,
        exec_id: str | None = None,
        stdin: bool = False,
        pty: TerminalSize | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        max_output: int = 8 << 20,
        tag: str | None = None,
    ) -> Process:
        """Start a process and return at once.

        The process lives until it ends, `timeout` seconds have passed, or the sandbox is deleted, whoever
        is connected.

        Args:
            command: words, or a string for `sh -c`.
            exec_id: the caller's id. Starting the same id twice starts one process.
            stdin: keep standard input open for `write_stdin`; otherwise it is at its end.
            pty: run in a pseudo-terminal of this size, with stderr on stdout and stdin open.
            cwd: where to start, relative to the sandbox's working directory.
            env: more variables.
            timeout: seconds; None is as long as the sandbox lives.
            max_output: the last so many bytes of each stream are kept.
            tag: a free name that `processes` repeats.

        Raises `FileNotFoundError` where `cwd` does not exist. A missing binary is exit code 127.
        """
        ...

    async def process(self, exec_id: str) -> Process:
        """Return a process spawned before, running or ended; raises `ProcessLookupError` if there is none."""
        ...

    async def processes(self) -> Sequence[ProcessInfo]:
        """Return the spawned processes, oldest first; those ended are kept for a while."""
        ...


@runtime_checkable
class InteractiveSession(Protocol):
    """What a session offers beyond `tumbler.contracts.sandbox.Session`: a say in the command that runs now."""

    async def send(self, data: bytes) -> None:
        """Send bytes to the running command's stdin; raises `BrokenPipeError` when no command takes them.

        A command takes input only where it was started with `start`.
        """
        ...

    async def start(self, command: str, *, timeout: float = 60.0, max_output: int = 1 << 20) -> None:
        """Start a command whose stdin stays open, and return at once; `finish` waits for it."""
        ...

    async def expect(self, pattern: bytes, *, timeout: float = 60.0) -> bytes:
        """Wait until the regular expression `pattern` occurs in the started command's stdout.

        Returns the output up to the end of the match that no earlier `expect` returned. Raises
        `TimeoutError` when it does not come, and `EOFError` when the command ends before.
        """
        ...

    async def interrupt(self) -> None:
        """Send SIGINT to the running command; the session and its state live on."""
        ...

    async def finish(self) -> ExecResult:
        """End the started command's stdin, wait for it within its `timeout`, and return its result."""
        ...
