"""What a sandbox is: an isolated place to run commands in and to keep files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, runtime_checkable

__all__ = [
    "ExecResult",
    "Healthcheck",
    "IsolationTier",
    "Mount",
    "NetworkPolicy",
    "Resources",
    "Sandbox",
    "SandboxBackend",
    "SandboxCapabilities",
    "SandboxSpec",
    "Session",
]

IsolationTier: TypeAlias = Literal["process", "namespace", "gvisor", "vm"]
"""How strongly a sandbox is separated from its host, weakest first."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Upper limits; None means that the backend's default applies."""

    cpus: float | None = None
    memory_bytes: int | None = None
    disk_bytes: int | None = None
    """What the sandbox may write in all; the number of its files is limited in proportion."""
    processes: int | None = None
    open_files: int | None = None
    gpus: int | None = None


@dataclass(frozen=True, kw_only=True)
class NetworkPolicy:
    """What the sandbox may reach: nothing, a list, or every public address.

    Metadata addresses (169.254.0.0/16, fd00:ec2::254 and the like) are refused in every mode.
    """

    mode: Literal["none", "allowlist", "public"] = "none"
    hosts: tuple[str, ...] = ()
    """For `allowlist`: names such as `pypi.org`, or `*.pythonhosted.org` for all below a name; `:443` at the end
    allows one port only."""
    cidrs: tuple[str, ...] = ()
    """For `allowlist`: address ranges such as `203.0.113.0/24`, with `:port` behind them for one port only
    (IPv6 in brackets: `[2001:db8::]/32:443`)."""


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A folder or file of the host that a sandbox sees."""

    source: str
    """The absolute path on the host."""
    target: str
    """The absolute path inside."""
    writable: bool = False


@dataclass(frozen=True, kw_only=True)
class Healthcheck:
    """What must succeed before a new sandbox counts as started."""

    command: tuple[str, ...]
    interval: float = 0.5
    """Seconds between tries; `startup_timeout` bounds them all."""
    timeout: float = 10.0
    """Seconds for one try."""


@dataclass(frozen=True, kw_only=True)
class SandboxSpec:
    """What to create. A backend refuses with `CapabilityError`, before it starts, what it cannot enforce."""

    image: str | None = None
    """The root file system: a backend's image name, or a folder or tar archive of the host; None is the backend's
    default."""
    template: str | None = None
    """The id of a snapshot to start from; excludes `image`."""
    user: str | None = None
    """Who runs commands: `root`, or a name or number that the image knows; None is the backend's unprivileged
    default."""
    workdir: str = "/work"
    """Where commands start and where relative paths of `write` and `read` lie."""
    env: Mapping[str, str] = field(default_factory=dict)
    resources: Resources = Resources()
    network: NetworkPolicy = NetworkPolicy()
    isolation_min: IsolationTier = "namespace"
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Files to write before the first command: path → content."""
    ttl: float = 3600.0
    """Seconds after which the sandbox may be reaped, whoever still holds it."""
    idle_ttl: float | None = None
    """Seconds without a call or a running process after which it may be reaped; None is never."""
    startup_timeout: float = 60.0
    """Seconds."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What the sandbox is for. The egress log repeats `trajectory`."""
    name: str | None = None
    """A name that no other living sandbox of the backend has."""
    idempotency_key: str | None = None
    """A second `create` with the same key returns the first one's sandbox."""
    mounts: tuple[Mount, ...] = ()
    healthcheck: Healthcheck | None = None


@dataclass(frozen=True, kw_only=True)
class ExecResult:
    """The outcome of one command. A non-zero exit is an outcome, not an error."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    duration: float
    """Seconds of wall time."""
    timed_out: bool = False
    truncated: bool = False
    """Whether output past the limit was thrown away."""
    signal: int | None = None
    oom: bool = False
    stdout_dropped: int = 0
    """Bytes of stdout thrown away, where the backend counts them."""
    stderr_dropped: int = 0
    """Bytes of stderr thrown away, where the backend counts them."""
    cpu_seconds: float | None = None
    """Processor time of the command and all its children, where the backend measures it."""
    max_rss_bytes: int | None = None
    """The largest resident memory of one process, where the backend measures it."""


@runtime_checkable
class Session(Protocol):
    """A shell that keeps its working directory and variables between commands."""

    async def run(self, command: str, *, timeout: float = 60.0, max_output: int = 1 << 20) -> ExecResult:
        """Run one shell command, first come first served.

        A command that passes `timeout` is killed and the session is restarted: its output never
        shows up in a later result. Raises `SessionEnded` once the shell has exited.
        """
        ...

    async def close(self) -> None:
        """End the shell and all that it started."""
        ...


@runtime_checkable
class Sandbox(Protocol):
    """One sandbox. All paths are paths inside it."""

    @property
    def id(self) -> str:
        """Return the sandbox's unique id."""
        ...

    @property
    def tier(self) -> IsolationTier:
        """Return the isolation actually obtained."""
        ...

    async def exec(
        self,
        command: str | Sequence[str],
        *,
        input: bytes | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60.0,
        max_output: int = 10 << 20,
        check: bool = False,
    ) -> ExecResult:
        """Run one command (a string goes through `sh -c`) and wait for it.

        A time-out kills the whole process tree and keeps the partial output. A missing binary is
        exit code 127, one that cannot be executed 126. With `check`, a non-zero exit raises
        `ExecFailed` and a time-out `ExecTimeout`.
        """
        ...

    async def session(self) -> Session:
        """Open a shell session."""
        ...

    async def write(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        """Write a file, parents made; symbolic links cannot lead out of the sandbox."""
        ...

    async def read(self, path: str, *, limit: int = 10 << 20) -> bytes:
        """Read a file of at most `limit` bytes; the builtin `OSError` classes tell what is wrong."""
        ...

    async def alive(self) -> bool:
        """Tell whether the sandbox really executes a command now."""
        ...

    async def delete(self) -> None:
        """Kill all processes and remove every trace. Safe to call twice, and shielded from cancellation."""
        ...


@dataclass(frozen=True, kw_only=True)
class SandboxCapabilities:
    """What a backend can do beyond the required methods."""

    tier: IsolationTier
    network_modes: tuple[str, ...] = ("none",)
    snapshots: bool = False
    """`snapshot`, `fork` and specs with a `template`."""
    pause: bool = False
    expose: bool = False
    watch: bool = False
    pty: bool = False
    attach: bool = False
    """Whether a sandbox outlives its owner's process and can be attached to from another one."""
    shared_processes: bool = False
    """Whether commands see each other's processes; where not, what a command leaves behind ends with it."""
    enforces: frozenset[str] = frozenset()
    """The fields of `Resources` that are enforced here: `cpus`, `memory_bytes`, `disk_bytes`, `processes`, …"""


@runtime_checkable
class SandboxBackend(Protocol):
    """Creates sandboxes, and removes those that dead owners left."""

    @property
    def capabilities(self) -> SandboxCapabilities:
        """Say what the backend can do."""
        ...

    async def start(self) -> None:
        """Check that the backend works here, with a clear error if not, and sweep what dead owners left."""
        ...

    async def create(self, spec: SandboxSpec) -> Sandbox:
        """Create a sandbox that is ready for its first command."""
        ...

    async def close(self) -> None:
        """Delete every sandbox that this instance created."""
        ...
