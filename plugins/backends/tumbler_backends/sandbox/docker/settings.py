"""The settings of the Docker backend."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from tumbler.config import Settings

__all__ = ["DockerSettings"]


class DockerSettings(Settings):
    """Which engine to use, what sandboxes are made from, and the limits where a sandbox's spec names none."""

    host: str | None = None
    """The engine's address, such as `unix:///run/docker.sock` or `tcp://build-host:2376`; None is `DOCKER_HOST`, the
    current Docker context, or the usual sockets."""
    root: Path | None = None
    """A folder of this machine for the owners' records and the pipes that commands write to; None is
    `$XDG_RUNTIME_DIR/tumbler-<uid>/docker`, or the same under the system's temporary folder."""
    owner: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")
    """A name that outlives this process: the next backend started under it takes the sandboxes over, and until their
    time to live is over nobody else removes them. None is an owner whose sandboxes are removed when it dies."""
    image: str = "debian:stable-slim"
    """The image of sandboxes whose spec names none: a name that the engine knows, or a folder or tar of this machine.
    It needs a POSIX shell; sessions need bash, and snapshots tar."""
    dockerfile: str | None = None
    """The text of a Dockerfile to build the default image from, in place of `image`. It is built once for each text;
    there is no build context."""
    pull: bool = False
    """Whether the engine may download an image that it does not know."""
    runtime: str | None = None
    """The engine's runtime for sandboxes; None is `runsc` (gVisor) where the engine has it, and its default
    otherwise."""
    past_the_engine: bool | None = None
    """Whether to start commands directly in the containers' namespaces, which is many times as fast as the engine's
    own way; None does so where this process is root on the engine's machine and the runtime is runc."""
    user: str = Field(default="1000:1000", pattern=r"^\d+:\d+$")
    """The user and group number of commands where a sandbox's spec names none."""
    root_filesystem: Literal["read-only", "writable"] = "read-only"
    """`read-only` lets sandboxes write to the working directory, the home folder and /tmp, all in memory and limited by
    `disk_bytes`; `writable` lets those with the rights for it write anywhere, without a limit."""
    cpus: float | None = Field(default=None, gt=0)
    """Processors of one sandbox where its spec does not say; None is all."""
    memory_bytes: int = Field(default=2 << 30, ge=16 << 20)
    """Memory of one sandbox, files in memory included, where its spec does not say. There is no swap."""
    disk_bytes: int = Field(default=1 << 30, ge=1 << 20)
    """Size of each writable folder of a sandbox where its spec does not say, in bytes."""
    processes: int = Field(default=256, gt=0)
    """Processes and threads of one sandbox where its spec does not say."""
    open_files: int = Field(default=1024, ge=256)
    """Open files of one process where the sandbox's spec does not say."""
    file_bytes: int = Field(default=1 << 30, gt=0)
    """The largest file that a sandbox may write, in bytes."""
    shared_memory_bytes: int = Field(default=64 << 20, gt=0)
    """The size of a sandbox's /dev/shm, in bytes."""
    hosts: dict[str, str] = Field(default_factory=dict)
    """Static names → addresses for sandboxes with a network, like lines of /etc/hosts. They alone can lead to this
    machine itself, and only where a sandbox's policy allows the name."""
    egress_log: Path | None = None
    """A file to append all attempts to reach something to, as JSON lines; None keeps the latest ones in memory."""
    concurrent_starts: int = Field(default=4, gt=0)
    """How many containers may be started at one time: the engine itself is slower with more."""
    request_timeout: float = Field(default=60.0, gt=0)
    """Seconds that the engine may take for one request; downloads, builds and snapshots have ten times as long."""
    engine_timeout: float = Field(default=5.0, gt=0)
    """Seconds without an answer of the engine after which running calls fail with `SandboxUnavailable`."""
    grace: float = Field(default=1.0, ge=0)
    """Seconds between SIGTERM and SIGKILL when a command passes its time-out."""
