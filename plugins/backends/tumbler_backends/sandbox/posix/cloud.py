"""What a cloud must offer for everything else here: start a process with streams. Knows no cloud."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from tumbler_backends.sandbox.posix.spawning import SpawnRecord

__all__ = ["Cloud", "CloudProcess"]


class CloudProcess(Protocol):
    """A started process as its cloud sees it; what it says goes into a `SpawnRecord`."""

    @property
    def pid(self) -> int | None:
        """Return the process id inside, where the cloud tells it."""
        ...

    async def write(self, data: bytes) -> None:
        """Send bytes to stdin; raises `BrokenPipeError` once nobody can read them."""
        ...

    async def close_stdin(self) -> None:
        """End stdin. Safe to call twice, and after the end."""
        ...

    async def abandon(self) -> None:
        """Stop reading what it says, and leave it alone: its record stays as it is. Safe to call twice."""
        ...


class Cloud(Protocol):
    """One sandbox of a cloud: all that sessions, files and processes need of it."""

    @property
    def workdir(self) -> str:
        """Return the absolute working directory that every process starts in."""
        ...

    def require(self) -> None:
        """Raise `SandboxDied` once the sandbox is known to be gone."""
        ...

    async def start(
        self, words: Sequence[str], *, env: Mapping[str, str], stdin: bool, record: SpawnRecord
    ) -> CloudProcess:
        """Start a program in the working directory, and return once it is started.

        From now on the cloud feeds `record.stdout` and `record.stderr`, and at the end calls `record.finish`, after
        all output has been fed, but at most a moment after the exit: children may hold the streams open. Where the
        end cannot be known, because the sandbox or the connection is gone, it calls `record.fail`.

        Args:
            words: the program and its arguments.
            env: variables beyond the sandbox's own.
            stdin: whether stdin stays open; otherwise it is at its end.
            record: where output and end go; its `exec_id` is unique in the sandbox, and good as the cloud's own id.

        Raises an error of the `SandboxError` tree where it could not be started.
        """
        ...
