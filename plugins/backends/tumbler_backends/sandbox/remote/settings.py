"""The settings of the remote backend."""

from pydantic import Field, SecretStr

from tumbler.config import Settings

__all__ = ["RemoteSettings"]


class RemoteSettings(Settings):
    """Where the service is, and how long to put up with a bad connection."""

    url: str = Field(default="http://127.0.0.1:8700", pattern="^https?://")
    """The service's address, as `tumbler sandbox serve` prints it."""
    token: SecretStr | None = None
    """The token of the service, where it needs one."""
    slack: float = Field(default=15.0, gt=0)
    """Seconds that an answer may take beyond what was asked for, such as a command's time-out."""
    retry_seconds: float = Field(default=30.0, ge=0)
    """Seconds during which a request that may be repeated is repeated when the service cannot be reached or is busy."""
    start_seconds: float = Field(default=3.0, ge=0)
    """Seconds for which `start` tries to reach the service: a wrong address is to be told soon."""
    connect_timeout: float = Field(default=5.0, gt=0)
    """Seconds to wait for a connection."""
