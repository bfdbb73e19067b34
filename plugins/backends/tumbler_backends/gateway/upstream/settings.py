"""The settings of a served model."""

from pydantic import Field, SecretStr, field_validator

from tumbler.config import Settings

__all__ = ["UpstreamSettings"]


class UpstreamSettings(Settings):
    """Where a model is served, and how patiently it is asked."""

    base_url: str
    """Up to and with the version, such as http://127.0.0.1:8000/v1."""
    model: str = Field(min_length=1)
    """The model's name at the server."""
    api_key: SecretStr | None = None
    """Sent as a bearer token; None sends none."""
    context_length: int = Field(default=32768, ge=1)
    """The longest conversation and reply, in tokens. Servers do not tell it in a way that all share."""
    timeout: float = Field(default=600.0, gt=0)
    """Seconds of silence after which a try fails."""
    retries: int = Field(default=3, ge=0)
    """Tries after the first one, where the server cannot be reached or has too much to do."""
    longest_wait: float = Field(default=30.0, gt=0)
    """Seconds between two tries at most, also where the server asks for more."""

    @field_validator("base_url")
    @classmethod
    def _require_http(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError(f"{value!r} is no address; give one such as http://127.0.0.1:8000/v1")
        return value.rstrip("/")
