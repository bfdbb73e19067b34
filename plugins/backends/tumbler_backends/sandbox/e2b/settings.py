"""The settings of the E2B backend."""

from typing import Literal

from pydantic import Field, SecretStr

from tumbler.config import Settings
from tumbler.contracts.sandbox import IsolationTier

__all__ = ["E2bSettings"]


class E2bSettings(Settings):
    """Where the sandboxes are, and what is known of them."""

    api_key: SecretStr | None = None
    """The API key; None is the environment variable `E2B_API_KEY`, where a key lies better than in a file."""
    api_url: str | None = None
    """The address of the control plane; None is E2B's cloud, or `E2B_API_URL`."""
    sandbox_url: str | None = None
    """One address for all sandboxes, for servers other than E2B's; None is each sandbox's own, or `E2B_SANDBOX_URL`."""
    template: str = "base"
    """The template of sandboxes whose spec names no image; a spec's `image` is a template's name."""
    tier: IsolationTier = "vm"
    """How strongly the service separates sandboxes: E2B's cloud gives each its own virtual machine."""
    network_modes: tuple[Literal["none", "allowlist", "public"], ...] = ("none", "allowlist", "public")
    """The network modes that the service can enforce."""
    shared_processes: bool = True
    """Whether commands of one sandbox see each other's processes; false for a service that runs each in namespaces of
    its own, as Tumbler's does over bubblewrap."""
    snapshot_mode: Literal["filesystem", "full"] = "filesystem"
    """What a snapshot holds. With `full`, for accounts that lack the other, processes are part of it, too."""
    owner: str | None = None
    """Whose sandboxes these are: a later backend under the same name finds them again. None is this process alone,
    whose sandboxes a later start on this machine removes once it is dead."""
    request_timeout: float = Field(default=60.0, gt=0)
    """Seconds for one request; commands and transfers of files have bounds of their own."""
    grace: float = Field(default=1.0, ge=0)
    """Seconds between SIGTERM and SIGKILL when a command passes its time-out."""
