"""A sandbox's spec on the wire."""

from typing import Annotated

from pydantic import Field

from tumbler.contracts.sandbox import Healthcheck, IsolationTier, Mount, NetworkPolicy, Resources, SandboxSpec
from tumbler_backends.sandbox.wire.fields import Body, Seconds, Text, WireBytes

__all__ = ["NetworkBody", "SpecBody"]

_Name = Annotated[Text, Field(min_length=1, max_length=200)]
_Bytes = Annotated[int, Field(gt=0, le=1 << 60)]
_Count = Annotated[int, Field(gt=0, le=1 << 31)]


class ResourcesBody(Body):
    """Upper limits; null means that the backend's default applies."""

    cpus: Annotated[float, Field(gt=0, le=4096, allow_inf_nan=False)] | None = None
    """Processors."""
    memory_bytes: _Bytes | None = None
    disk_bytes: _Bytes | None = None
    processes: _Count | None = None
    open_files: _Count | None = None
    gpus: Annotated[int, Field(ge=0, le=1024)] | None = None


class NetworkBody(Body):
    """What the sandbox may reach: nothing, a list, or every public address."""

    mode: Annotated[str, Field(pattern="^(none|allowlist|public)$")] = "none"
    hosts: tuple[Text, ...] = ()
    """For `allowlist`: names such as `pypi.org`, or `*.pythonhosted.org`; `:443` at the end allows one port only."""
    cidrs: tuple[Text, ...] = ()
    """For `allowlist`: address ranges such as `203.0.113.0/24`, with `:port` behind them for one port only."""

    def policy(self) -> NetworkPolicy:
        """Return it as the contract has it."""
        return NetworkPolicy(**dict(self))


class MountBody(Body):
    """A folder or file of the server's host that the sandbox sees; the operator must have allowed it."""

    source: Text
    """The absolute path on the server's host."""
    target: Text
    """The absolute path inside."""
    writable: bool = False


class HealthcheckBody(Body):
    """What must succeed before a new sandbox counts as started."""

    command: tuple[Text, ...] = Field(min_length=1)
    interval: Seconds = 0.5
    """Seconds between tries."""
    timeout: Seconds = 10.0
    """Seconds for one try."""


class SpecBody(Body):
    """What to create. What cannot be enforced is refused before anything starts."""

    image: _Name | None = None
    """The root file system: an image name of the backend; null is the backend's default."""
    template: _Name | None = None
    """The id of a snapshot to start from; excludes `image`."""
    user: _Name | None = None
    """Who runs commands; null is the backend's unprivileged default."""
    workdir: Text = "/work"
    """Where commands start and where relative paths lie."""
    env: dict[Text, Text] = Field(default_factory=dict)
    """Variables of every command."""
    resources: ResourcesBody = ResourcesBody()
    network: NetworkBody = NetworkBody()
    isolation_min: IsolationTier = "namespace"
    """The weakest isolation that will do."""
    files: dict[Text, WireBytes] = Field(default_factory=dict)
    """Files to write before the first command: path → content."""
    ttl: Seconds = 3600.0
    """Seconds after which the sandbox may be reaped, whoever still holds it."""
    idle_ttl: Seconds | None = None
    """Seconds without a call or a running process after which it may be reaped; null is never."""
    startup_timeout: Seconds = 60.0
    """Seconds."""
    labels: dict[Text, Text] = Field(default_factory=dict)
    """What the sandbox is for; those that begin with `tumbler.` are the service's own."""
    name: _Name | None = None
    """A name that no other living sandbox has."""
    idempotency_key: _Name | None = None
    """A second creation with the same key returns the first one's sandbox."""
    mounts: tuple[MountBody, ...] = ()
    healthcheck: HealthcheckBody | None = None

    def spec(self) -> SandboxSpec:
        """Return it as the contract has it."""
        return SandboxSpec(
            **{
                **dict(self),
                "resources": Resources(**dict(self.resources)),
                "network": self.network.policy(),
                "mounts": tuple(Mount(**dict(mount)) for mount in self.mounts),
                "healthcheck": None if self.healthcheck is None else Healthcheck(**dict(self.healthcheck)),
            }
        )
