"""The settings of the service."""

import ipaddress
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from tumbler.config import Settings

__all__ = ["DEFAULT_TENANT", "Quota", "ServiceSettings", "TenantSettings", "is_loopback"]

DEFAULT_TENANT: Final = "default"
"""The one tenant of a service without tokens."""

_TOKEN_LENGTH: Final = 16


class Quota(Settings):
    """What one tenant may use."""

    max_sandboxes: int = Field(default=1000, ge=0)
    """Living sandboxes at one time."""
    creates_per_second: float | None = Field(default=None, gt=0)
    """Creations a second, on average over ten seconds; None is no limit."""
    cpus: float | None = Field(default=None, gt=0)
    """The most processors of one sandbox; None is no limit."""
    memory_bytes: int | None = Field(default=None, gt=0)
    """The most memory of one sandbox; None is no limit."""
    ttl: float | None = Field(default=None, gt=0)
    """The most seconds that a sandbox may be given, at its creation and at each extension; None is no limit."""
    max_environments: int = Field(default=100, ge=0)
    """Open environments at one time."""


class TenantSettings(Quota):
    """One tenant: who sends this token sees this tenant's sandboxes and no others."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
    """Written into the sandboxes' labels."""
    token: SecretStr
    """What clients send as `Authorization: Bearer …`; at least 16 characters."""

    @field_validator("token")
    @classmethod
    def _require_length(cls, value: SecretStr) -> SecretStr:
        if len(value.get_secret_value()) < _TOKEN_LENGTH:
            raise ValueError(f"a token has at least {_TOKEN_LENGTH} characters; make one with: openssl rand -hex 16")
        return value


class ServiceSettings(Settings):
    """Where the service listens, who may use it, and how much of it."""

    host: str = "127.0.0.1"
    """The address to listen on. One that other machines reach needs `tenants`."""
    port: int = Field(default=8700, ge=0, le=65535)
    """0 takes a free one."""
    tenants: tuple[TenantSettings, ...] = ()
    """Who may use the service; empty is everybody on this machine, without a token."""
    quota: Quota = Quota()
    """For a service without tokens."""
    concurrent_creates: int = Field(default=16, ge=1)
    """Sandboxes that are being created at one time; further requests wait."""
    queue: int = Field(default=256, ge=0)
    """Creations that may wait; beyond, the answer is 503 with a Retry-After."""
    queue_seconds: float = Field(default=30.0, gt=0)
    """Seconds that a creation waits at most."""
    body_bytes: int = Field(default=64 << 20, ge=1 << 10)
    """The largest body of a request, in bytes, uploads of files excepted."""
    upload_bytes: int = Field(default=16 << 30, ge=1 << 10)
    """The largest file that can be uploaded, in bytes."""
    output_bytes: int = Field(default=32 << 20, ge=1 << 10)
    """The most output of one command that is kept, for each stream, whatever the client asks for."""
    secret: SecretStr | None = None
    """What the access tokens of E2B clients are derived from; None derives it from the tenants' tokens, so that it is
    the same after a restart. Without tenants, it is drawn anew at each start."""
    host_paths: tuple[Path, ...] = ()
    """Folders of this machine below which clients may name images and mounts; empty refuses both."""
    environment_idle: float = Field(default=900.0, gt=0)
    """Seconds without a call after which an open environment is closed."""
    shutdown_seconds: float = Field(default=10.0, ge=0)
    """Seconds that requests may take to end when the service stops."""
    on_stop: Literal["keep", "delete"] = "keep"
    """What becomes of the sandboxes when the service stops in order. `keep` leaves them to the next service whose
    backend's owner has the same name; where the owner has none, they are deleted in any case."""

    @model_validator(mode="after")
    def _require_tokens(self) -> "ServiceSettings":
        if not self.tenants and not is_loopback(self.host):
            raise ValueError(
                f"{self.host!r} can be reached from other machines, which needs `tenants` with tokens, "
                "or a token in the environment variable TUMBLER_SANDBOX_TOKEN with `tumbler sandbox serve`"
            )
        for field in ("name", "token"):
            values = [getattr(tenant, field) for tenant in self.tenants]
            if len(set(values)) < len(values):
                raise ValueError(f"two tenants have the same {field}")
        return self


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
