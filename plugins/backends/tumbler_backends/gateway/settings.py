"""The settings of the gateway; imports no server."""

from pathlib import Path

from pydantic import Field, model_validator

from tumbler.config import Settings

__all__ = ["GatewaySettings"]


class GatewaySettings(Settings):
    """Where the gateway listens, how it writes tool calls as text, and what it bounds."""

    port: int = Field(default=0, ge=0, le=65535)
    """Of 127.0.0.1, which is the only address that is listened on; 0 takes a free one."""
    unix_socket: bool = True
    """Whether to listen on a unix socket, too: for sandboxes without a network."""
    dialect: str = "hermes"
    """How tool calls and thinking are written in the policy's text."""
    model: str = Field(default="policy", min_length=1)
    """The model's name for the APIs; requests that name another are served alike."""
    client_temperature: bool = True
    """Whether a request's temperature is used. Replies at another one than the run's are never trained; False samples
    all replies as the run does, whatever an agent asks for."""
    body_bytes: int = Field(default=32 << 20, ge=1 << 10)
    """The largest body of a request, in bytes."""
    read_seconds: float = Field(default=60.0, gt=0)
    """Seconds that the body of a request may take to arrive."""
    keep_alive: float = Field(default=10.0, gt=0)
    """Seconds of silence after which a stream gets a comment, so that no client takes it for dead."""
    retry_grace: float = Field(default=2.0, ge=0)
    """Seconds that a call goes on without its client, where that one's headers say that it retries: it is joined by the
    retry. 0 cancels at once."""
    remembered: int = Field(default=512, ge=1)
    """Finished calls of one session that are kept for retries, and answers that a later request may go on from."""
    shutdown_seconds: float = Field(default=10.0, gt=0)
    """Seconds that cancelled calls may take to end."""
    record: Path | None = None
    """A file that every call is appended to, one JSON object a line."""
    replay: Path | None = None
    """A file of recorded calls to answer from instead of a model: a request gets the answer of the first one left that
    was the same, and is refused without any."""

    @model_validator(mode="after")
    def _require_one_of_both(self) -> "GatewaySettings":
        if self.record is not None and self.replay is not None:
            raise ValueError("`record` and `replay` exclude each other: a replay has nothing new to record")
        return self
