"""The settings of the bubblewrap backend."""

from pathlib import Path

from pydantic import Field

from tumbler.config import Settings

__all__ = ["BubblewrapSettings"]


class BubblewrapSettings(Settings):
    """How the backend starts sandboxes, and the limits where a sandbox's spec names none."""

    root: Path | None = None
    """The folder that holds all owners' sandboxes; None is `$XDG_RUNTIME_DIR/tumbler-<uid>/sandboxes`, or the same
    under the system's temporary folder. On a tmpfs such as /dev/shm sandboxes come and go fastest, and their files
    take memory."""
    bwrap: str = "bwrap"
    """The bubblewrap program: a name on PATH or a path."""
    memory_bytes: int = Field(default=2 << 30, gt=0)
    """Memory of one sandbox, in bytes, where its spec does not say."""
    processes: int = Field(default=256, gt=0)
    """Processes and threads of one sandbox where its spec does not say."""
    open_files: int = Field(default=1024, ge=256)
    """Open files of one process where the sandbox's spec does not say."""
    file_bytes: int = Field(default=1 << 30, gt=0)
    """The largest file that a sandbox may write, in bytes."""
    shared_memory_bytes: int = Field(default=64 << 20, gt=0)
    """The size of a sandbox's /dev/shm, in bytes."""
    concurrent_starts: int = Field(default=0, ge=0)
    """How many bwrap processes may start at one time; 0 is twice the number of processors."""
    grace: float = Field(default=1.0, ge=0)
    """Seconds between SIGTERM and SIGKILL when a command passes its time-out."""
