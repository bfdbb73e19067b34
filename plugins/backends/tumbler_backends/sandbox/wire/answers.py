"""What the service tells of sandboxes, their commands and their files; each model mirrors a value of the contract."""

from typing import Literal

from pydantic import Field

from tumbler.contracts.sandbox import ExecResult, IsolationTier, SandboxCapabilities
from tumbler.contracts.sandbox_control import EgressRecord, SandboxInfo, SandboxState, SandboxUsage, Template
from tumbler.contracts.sandbox_files import EntryKind, EventKind, FileEntry, FileEvent
from tumbler.contracts.sandbox_process import ProcessExit, ProcessInfo
from tumbler_backends.sandbox.wire.fields import Answer, WireBytes, WireText

__all__ = [
    "CapabilitiesAnswer",
    "EgressAnswer",
    "EntryAnswer",
    "EventAnswer",
    "ExecAnswer",
    "ExitAnswer",
    "InfoAnswer",
    "ProcessAnswer",
    "ServerAnswer",
    "TemplateAnswer",
    "UsageAnswer",
]


class ExecAnswer(Answer):
    """The outcome of one command. A non-zero exit is an outcome, not an error."""

    exit_code: int
    stdout: WireBytes
    stderr: WireBytes
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
    max_rss_bytes: int | None = None

    def value(self) -> ExecResult:
        """Return it as the contract has it."""
        return ExecResult(**dict(self))


class ExitAnswer(Answer):
    """How a process ended."""

    exit_code: int
    """128 + n where it died of signal n."""
    signal: int | None = None
    oom: bool = False
    timed_out: bool = False
    duration: float = 0.0
    """Seconds of wall time."""

    def value(self) -> ProcessExit:
        """Return it as the contract has it."""
        return ProcessExit(**dict(self))


class ProcessAnswer(Answer):
    """One spawned process, running or ended."""

    exec_id: str
    command: tuple[WireText, ...]
    pid: int | None = None
    tag: str | None = None
    exit: ExitAnswer | None = None
    """Null while it runs."""

    def value(self) -> ProcessInfo:
        """Return it as the contract has it."""
        return ProcessInfo(**{**dict(self), "exit": None if self.exit is None else self.exit.value()})


class EntryAnswer(Answer):
    """One entry of the sandbox's file system; a link is described itself."""

    path: WireText
    """Absolute."""
    kind: EntryKind
    size: int
    mode: int
    """Permission bits."""
    modified: float
    """Seconds since the epoch."""
    owner: str = ""
    group: str = ""
    target: WireText | None = None
    """Where a symbolic link leads."""

    def value(self) -> FileEntry:
        """Return it as the contract has it."""
        return FileEntry(**dict(self))


class EventAnswer(Answer):
    """A change below a watched folder."""

    kind: EventKind
    path: WireText
    """Absolute."""

    def value(self) -> FileEvent:
        """Return it as the contract has it."""
        return FileEvent(**dict(self))


class InfoAnswer(Answer):
    """A living sandbox."""

    id: str
    backend: str
    state: SandboxState
    tier: IsolationTier
    created: float
    """Seconds since the epoch."""
    expires: float
    """Seconds since the epoch."""
    owner: str = ""
    name: str | None = None
    image: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)

    def value(self) -> SandboxInfo:
        """Return it as the contract has it."""
        return SandboxInfo(**dict(self))


class UsageAnswer(Answer):
    """What a sandbox uses now; null where the backend does not know."""

    cpu_seconds: float | None = None
    memory_bytes: int | None = None
    memory_peak_bytes: int | None = None
    processes: int | None = None
    disk_bytes: int | None = None

    def value(self) -> SandboxUsage:
        """Return it as the contract has it."""
        return SandboxUsage(**dict(self))


class EgressAnswer(Answer):
    """One attempt to reach something outside of a sandbox, allowed or not."""

    time: float
    """Seconds since the epoch."""
    sandbox: str
    trajectory: str | None
    protocol: Literal["tcp", "udp", "dns", "other"]
    host: WireText | None
    address: str
    port: int
    allowed: bool
    reason: WireText
    sent: int = 0
    received: int = 0

    def value(self) -> EgressRecord:
        """Return it as the contract has it."""
        return EgressRecord(**dict(self))


class TemplateAnswer(Answer):
    """A snapshot that new sandboxes can start from."""

    id: str
    created: float
    """Seconds since the epoch."""
    source: str = ""
    bytes: int | None = None
    labels: dict[str, str] = Field(default_factory=dict)

    def value(self) -> Template:
        """Return it as the contract has it."""
        return Template(**dict(self))


class CapabilitiesAnswer(Answer):
    """What the server's backend can do."""

    tier: IsolationTier
    network_modes: tuple[str, ...] = ("none",)
    snapshots: bool = False
    pause: bool = False
    expose: bool = False
    watch: bool = False
    pty: bool = False
    attach: bool = False
    shared_processes: bool = False
    enforces: frozenset[str] = frozenset()
    """The resources that are enforced."""

    def value(self) -> SandboxCapabilities:
        """Return it as the contract has it."""
        return SandboxCapabilities(**dict(self))


class ServerAnswer(Answer):
    """The server itself."""

    version: str
    """Tumbler's."""
    instance: str
    """Another one after each start of the server."""
    capabilities: CapabilitiesAnswer
