"""The settings of the bubblewrap backend."""

from pathlib import Path

from pydantic import Field

from tumbler.config import Settings

__all__ = ["BubblewrapSettings"]


class BubblewrapSettings(Settings):
    """How the backend starts sandboxes, and the limits where a sandbox's spec names none."""

    root: Path | None = None
    """The folder that holds all owners' sandboxes; None is `$XDG_RUNTIME_DIR/tumbler-<uid>/sandboxes`, or the same
    under the system's temporary folder."""
    in_memory: bool = False
    """Whether the sandboxes lie under /dev/shm where `root` is None and the machine has it. They come and go fastest
    there, and what they write takes memory and counts as theirs: for many small and short ones."""
    cache: Path | None = None
    """The folder for unpacked images and for templates; None is beside `root`, or where that would be on a disk, so
    that all owners share it."""
    owner: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")
    """A name under which sandboxes survive their owner's death: the next start under it gets them back, and until
    then they live as long as their `ttl` says. None is no name: they end with this process."""
    images: dict[str, Path] = Field(default_factory=dict)
    """Names for root file systems: folders, or tar archives as `docker export` makes them."""
    mountable: tuple[Path, ...] = ()
    """Folders of the host of which a spec may mount parts; none are by default."""
    hosts: dict[str, str] = Field(default_factory=dict)
    """Static names → addresses for sandboxes with a network, like lines of /etc/hosts. They alone can lead to this
    machine itself, and only where a sandbox's policy allows the name."""
    egress_log: Path | None = None
    """A file to which each attempt to reach something is appended as a line of JSON; None is no file."""
    bwrap: str = "bwrap"
    """The bubblewrap program: a name on PATH or a path."""
    memory_bytes: int = Field(default=2 << 30, gt=0)
    """Memory of one sandbox, in bytes, where its spec does not say. The files of a sandbox with `disk_bytes` lie in
    memory, and count."""
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
    max_sandboxes: int = Field(default=0, ge=0)
    """How many sandboxes this owner may have at one time; 0 is no limit."""
    grace: float = Field(default=1.0, ge=0)
    """Seconds between SIGTERM and SIGKILL when a command passes its time-out."""
