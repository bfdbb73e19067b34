"""Settings of the test components."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from tumbler.config import Settings


class TrailSettings(Settings):
    """Settings of the environment trail."""

    size: int = Field(default=5, ge=2)
    """Steps to the end."""
    words: tuple[str, ...] = ("north", "south")
    """What may be said."""
    shortest: int = 1
    """Never more than size."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.shortest > self.size:
            raise ValueError("shortest is more than size")
        return self


class MazeSettings(Settings):
    size: int
    """Cells along one side."""
    theme: str = "stone"


class IPASettings(Settings):
    gamma: float = Field(default=0.95, ge=0, le=1)
    """Discount for each chunk."""
    clip: float = 0.2
    mode: Literal["chunk", "token"] = "chunk"


class ReactSettings(Settings):
    prompt: str | None = None


class SummarySettings(Settings):
    threshold: float = 0.8


class EngineSettings(Settings):
    cache: Path = Path("cache")
    batch: int = 8


class Retry(Settings):
    attempts: int = 3
    token: SecretStr | None = None


class CloudSettings(Settings):
    api_key: SecretStr
    """The key."""
    region: str = "eu"
    retry: Retry = Retry()
    headers: dict[str, SecretStr] = Field(default={})
    spare_key: SecretStr = SecretStr("built-in")
