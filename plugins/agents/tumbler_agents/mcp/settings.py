"""Settings of one server of the Model Context Protocol."""

from collections.abc import Mapping
from typing import Final, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from tumbler.config import Settings

__all__ = ["McpServer"]

_OF_COMMAND: Final = ("args", "env", "secret_env", "cwd")
_OF_URL: Final = ("headers", "secret_headers")


class McpServer(Settings):
    """A server: either a `command` to start, spoken to over its standard input and output, or the `url` of one.

    A command runs on the host, as the user who runs the episode, and not in the sandbox: name only programs that you
    trust as you trust a plugin. It sees the variables PATH, HOME, LANG, LC_ALL and TMPDIR and those given here.
    """

    command: str | None = None
    """The program to start."""

    args: tuple[str, ...] = ()
    """The program's arguments."""

    env: Mapping[str, str] = Field(default_factory=dict)
    """Variables for the program."""

    secret_env: Mapping[str, SecretStr] = Field(default_factory=dict)
    """Variables whose values are secrets, each a reference such as `{ env = "GITHUB_TOKEN" }`."""

    cwd: str | None = None
    """The folder that the program starts in; null is the present one."""

    url: str | None = None
    """The address of a server over streamable HTTP, such as `http://127.0.0.1:8000/mcp`."""

    headers: Mapping[str, str] = Field(default_factory=dict)
    """Headers of every request."""

    secret_headers: Mapping[str, SecretStr] = Field(default_factory=dict)
    """Headers whose values are secrets, each a reference such as `{ env = "SERVICE_AUTHORIZATION" }`."""

    include: tuple[str, ...] = ()
    """Names of the server's tools to offer, `*` stands for any characters; none means all."""

    exclude: tuple[str, ...] = ()
    """Names of the server's tools to leave out, also of those included."""

    prefix: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{0,32}$")
    """What the names of the tools begin with, two underscores after it; null is the server's name, an empty text
    leaves the names as they are."""

    trust_hints: bool = False
    """Whether a tool that the server calls read-only counts as such; the protocol calls these hints untrusted."""

    start_seconds: float = Field(default=30.0, gt=0)
    """How long the server may take to start and to tell its tools."""

    call_seconds: float = Field(default=120.0, gt=0)
    """How long one call may take."""

    output_chars: int = Field(default=16_000, ge=200)
    """Characters of one answer; of a longer one the beginning and the end are shown."""

    @field_validator("url")
    @classmethod
    def _require_http(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return value

    @model_validator(mode="after")
    def _require_one_kind(self) -> Self:
        if (self.command is None) == (self.url is None):
            raise ValueError("name either a command or a url")
        kind, foreign = ("url", _OF_COMMAND) if self.command is None else ("command", _OF_URL)
        wrong = [name for name in foreign if getattr(self, name)]
        if wrong:
            raise ValueError(f"{', '.join(wrong)} cannot be set for a server with a {kind}")
        twice = sorted({*self.env} & {*self.secret_env} | {*self.headers} & {*self.secret_headers})
        if twice:
            raise ValueError(f"given both plainly and as a secret: {', '.join(twice)}")
        return self

    def variables(self) -> dict[str, str]:
        """Return the program's own variables, secrets revealed."""
        return {**self.env, **{name: value.get_secret_value() for name, value in self.secret_env.items()}}

    def all_headers(self) -> dict[str, str]:
        """Return the headers, secrets revealed."""
        return {**self.headers, **{name: value.get_secret_value() for name, value in self.secret_headers.items()}}
