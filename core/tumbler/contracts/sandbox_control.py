"""What owners of sandboxes do with them: find, keep, limit, copy and count them.

These protocols extend `tumbler.contracts.sandbox`; a backend offers them by having the methods.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, TypeAlias, runtime_checkable

from tumbler.contracts.sandbox import IsolationTier, NetworkPolicy, Sandbox, SandboxBackend, SandboxSpec, Session
from tumbler.contracts.sandbox_files import FilesSandbox
from tumbler.contracts.sandbox_process import SpawningSandbox

__all__ = [
    "TEMPLATE_LIFETIME",
    "BackendMetrics",
    "CompleteSandbox",
    "ControlledSandbox",
    "DetachableBackend",
    "EgressRecord",
    "ManagedBackend",
    "SandboxInfo",
    "SandboxState",
    "SandboxUsage",
    "Template",
]

TEMPLATE_LIFETIME: Final = "template-lifetime"
"""A label of sandboxes. With the value `owner`, their snapshots are of no use once the owner's process is dead, and a
backend that can tell sweeps them then; all others stay until somebody deletes them."""

SandboxState: TypeAlias = Literal["running", "paused"]


@dataclass(frozen=True, kw_only=True)
class SandboxInfo:
    """What is known of a living sandbox without asking it."""

    id: str
    backend: str
    """The backend's component id, such as `bubblewrap`."""
    state: SandboxState
    tier: IsolationTier
    created: float
    """Seconds since the epoch."""
    expires: float
    """Seconds since the epoch."""
    owner: str = ""
    name: str | None = None
    image: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SandboxUsage:
    """What a sandbox uses now; None where the backend does not know."""

    cpu_seconds: float | None = None
    memory_bytes: int | None = None
    memory_peak_bytes: int | None = None
    processes: int | None = None
    disk_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class EgressRecord:
    """One attempt to reach something outside of a sandbox, allowed or not."""

    time: float
    """Seconds since the epoch."""
    sandbox: str
    trajectory: str | None
    """The sandbox's label `trajectory`."""
    protocol: Literal["tcp", "udp", "dns", "other"]
    host: str | None
    """The name that was asked for, where one is known."""
    address: str
    """The address the sandbox's process aimed at; for `dns`, the name server's."""
    port: int
    allowed: bool
    reason: str
    """Which rule decided, in words."""
    sent: int = 0
    """Bytes from the sandbox, for a connection that has ended."""
    received: int = 0
    """Bytes to the sandbox, for a connection that has ended."""


@dataclass(frozen=True, kw_only=True)
class Template:
    """A snapshot: where new sandboxes can start from."""

    id: str
    """What `SandboxSpec.template` takes."""
    created: float
    """Seconds since the epoch."""
    source: str = ""
    """The id of the sandbox it was taken of."""
    bytes: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class BackendMetrics:
    """Counts since the backend was built."""

    sandboxes: int
    """Living now."""
    created: int
    deleted: int
    expired: int = 0
    start_failures: int = 0
    infra_failures: int = 0
    """Errors raised with `infra` set."""
    commands: int = 0
    start_seconds: Mapping[float, int] = field(default_factory=dict)
    """Upper bound in seconds → how many sandboxes became ready within it; `inf` counts all."""


@runtime_checkable
class ControlledSandbox(Protocol):
    """A sandbox whose life, network and copies are steered from outside."""

    @property
    def spec(self) -> SandboxSpec:
        """Return what it was made from."""
        ...

    async def info(self) -> SandboxInfo:
        """Describe it."""
        ...

    async def extend(self, ttl: float) -> None:
        """Let it live `ttl` seconds from now on."""
        ...

    async def heartbeat(self) -> None:
        """Count as a use, for `idle_ttl`."""
        ...

    async def pause(self) -> None:
        """Freeze all processes; raises `CapabilityError` where `SandboxCapabilities.pause` is false."""
        ...

    async def resume(self) -> None:
        """Undo `pause`."""
        ...

    async def set_network(self, policy: NetworkPolicy) -> None:
        """Replace the network policy at once; connections that it forbids are cut.

        Raises `CapabilityError` for a mode outside of `SandboxCapabilities.network_modes`, and changes nothing.
        """
        ...

    async def egress(self) -> Sequence[EgressRecord]:
        """Return what was tried to be reached, oldest first; the latest 10,000 are kept."""
        ...

    async def expose(self, port: int) -> str:
        """Return a URL at which this machine reaches a port that is listened on inside.

        Raises `CapabilityError` where `SandboxCapabilities.expose` is false.
        """
        ...

    async def usage(self) -> SandboxUsage:
        """Measure what it uses."""
        ...

    async def snapshot(self) -> Template:
        """Copy its files into a template; processes are not part of it.

        Raises `CapabilityError` where `SandboxCapabilities.snapshots` is false.
        """
        ...

    async def fork(self, count: int = 1) -> Sequence[Sandbox]:
        """Create sandboxes of the same spec with the same files; the same error as `snapshot`."""
        ...


@runtime_checkable
class CompleteSandbox(Sandbox, SpawningSandbox, FilesSandbox, ControlledSandbox, Protocol):
    """A sandbox with everything."""

    async def session(self) -> Session:
        """Open a shell session."""
        ...


@runtime_checkable
class ManagedBackend(SandboxBackend, Protocol):
    """A backend that finds its sandboxes again."""

    async def get(self, identity: str) -> CompleteSandbox:
        """Return a living sandbox of this owner by id or name; raises `SandboxNotFound`."""
        ...

    async def list(self, *, labels: Mapping[str, str] | None = None, mine: bool = True) -> Sequence[SandboxInfo]:
        """Return the living sandboxes that have all these labels, oldest first; with `mine` false, all owners'."""
        ...

    async def attach(self, identity: str) -> CompleteSandbox:
        """Take over a living sandbox that another process made; raises `SandboxNotFound`.

        Raises `CapabilityError` where `SandboxCapabilities.attach` is false.
        """
        ...

    async def reconcile(self) -> int:
        """Remove what is past its time and what dead owners left; return how many sandboxes that were."""
        ...

    async def templates(self) -> Sequence[Template]:
        """Return the snapshots, oldest first."""
        ...

    async def delete_template(self, identity: str) -> None:
        """Remove a snapshot; sandboxes made from it live on. Raises `SandboxNotFound`."""
        ...

    def measure(self) -> BackendMetrics:
        """Return the counts."""
        ...


@runtime_checkable
class DetachableBackend(ManagedBackend, Protocol):
    """A backend that can end without its sandboxes."""

    @property
    def detachable(self) -> bool:
        """Tell whether `detach` works: whether the settings name an owner, where the backend needs one for it."""
        ...

    async def detach(self) -> None:
        """End this instance in place of `close`, and leave its sandboxes to the next start under the same owner's name.

        Each lives until its own time is over, whether or not such a start comes. Whether its processes go on is up to
        the backend; the files stay, but for those in memory. Raises `CapabilityError`, and ends nothing, where
        `detachable` is false.
        """
        ...
