"""What a task.toml says, as far as it is heeded here, and what of it is refused; knows no other file of a task.

The format is Harbor's, versions 1.0 to 1.4 (https://www.harborframework.com/docs/tasks). Sections that change what is
run refuse keys that are not known; [metadata], [task] and [solution] may hold anything.
"""

import re
import tomllib
from ipaddress import ip_network
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from tumbler.contracts.sandbox import Healthcheck, NetworkPolicy, Resources

__all__ = ["EnvironmentSection", "TaskConfiguration", "parse_configuration"]

_MEBIBYTE = 1 << 20
_SIZE = re.compile(r"(\d+(?:\.\d+)?) *([GMK])B?", re.IGNORECASE)
_UNITS = {"G": 1 << 30, "M": 1 << 20, "K": 1 << 10}
_NETWORK_MODES: dict[str, Literal["none", "public", "allowlist"]] = {
    "no-network": "none",
    "public": "public",
    "allowlist": "allowlist",
}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Networked(_Section):
    network_mode: Literal["no-network", "public", "allowlist"] | None = None
    allowed_hosts: list[str] = Field(default_factory=list)

    @property
    def policy(self) -> NetworkPolicy | None:
        """Return the policy that is asked for, or None for none."""
        if self.network_mode is None:
            return None
        ranges = [str(entry) for entry in map(_as_range, self.allowed_hosts) if entry]
        names = tuple(host for host in self.allowed_hosts if not _as_range(host))
        return NetworkPolicy(mode=_NETWORK_MODES[self.network_mode], hosts=names, cidrs=tuple(ranges))


class HealthcheckSection(_Section):
    """What must succeed before the agent begins."""

    command: str
    interval_sec: float = 5.0
    timeout_sec: float = 30.0
    start_period_sec: float = 0.0
    start_interval_sec: float = 5.0
    retries: int = 3

    @property
    def healthcheck(self) -> Healthcheck:
        """Return it in the sandboxes' words; the number of tries follows from the time that a start may take."""
        return Healthcheck(command=("sh", "-c", self.command), interval=self.interval_sec, timeout=self.timeout_sec)


class EnvironmentSection(_Networked):
    """The sandbox that the task wants."""

    build_timeout_sec: float = 600.0
    docker_image: str | None = None
    os: Literal["linux"] = "linux"
    cpus: float | None = None
    memory_mb: float | None = None
    storage_mb: float | None = None
    memory: str | None = None
    storage: str | None = None
    gpus: int | None = None
    gpu_types: list[str] | None = None
    env: dict[str, str] = Field(default_factory=dict)
    skills_dir: str | None = None
    healthcheck: HealthcheckSection | None = None
    workdir: str | None = Field(default=None, pattern=r"^/.")
    allow_internet: bool | None = None

    @field_validator("memory", "storage")
    @classmethod
    def _check_size(cls, value: str | None) -> str | None:
        if value is not None and _SIZE.fullmatch(value.strip()) is None:
            raise ValueError(f"{value!r} is no size; write a number with G, M or K behind it, such as 512M")
        return value

    @field_validator("os", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @property
    def policy(self) -> NetworkPolicy:
        """Return the policy, by the old field where only that is given; saying nothing is asking for all."""
        default = NetworkPolicy(mode="none" if self.allow_internet is False else "public")
        return super().policy or default

    @property
    def resources(self) -> Resources:
        """Return the limits that are asked for."""
        return Resources(
            cpus=self.cpus,
            memory_bytes=_bytes(self.memory_mb, self.memory),
            disk_bytes=_bytes(self.storage_mb, self.storage),
            gpus=self.gpus or None,
        )


class VerifierSection(_Networked):
    """How the tests are run."""

    timeout_sec: float = Field(default=600.0, gt=0)
    env: dict[str, str] = Field(default_factory=dict)
    user: str | int | None = None
    environment_mode: Literal["shared"] | None = None


class AgentSection(_Networked):
    """Who works; how long is the run's to say."""

    timeout_sec: float | None = None
    user: str | int | None = None


class TaskConfiguration(BaseModel):
    """One task.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: str = "1.0"
    metadata: dict[str, Any] = Field(default_factory=dict)
    task: dict[str, Any] = Field(default_factory=dict)
    solution: dict[str, Any] = Field(default_factory=dict)
    agent: AgentSection = AgentSection()
    verifier: VerifierSection = VerifierSection()
    environment: EnvironmentSection = EnvironmentSection()
    source: str | None = None
    artifacts: list[Any] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _old_names(cls, data: object) -> object:
        if isinstance(data, dict) and "version" in data:
            return {"schema_version": data["version"], **{key: data[key] for key in data if key != "version"}}
        return data

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.verifier.user is not None and self.verifier.user != self.agent.user:
            raise ValueError("verifier.user differs from agent.user: a sandbox runs all its commands as one user")
        for section, env in (("environment", self.environment.env), ("verifier", self.verifier.env)):
            for name, value in env.items():
                if "${" in value:
                    raise ValueError(f"{section}.env.{name}: nothing of this machine's own environment is handed over")
        return self


def parse_configuration(text: str) -> TaskConfiguration:
    """Return what the text of a task.toml says; raise `ValueError` that names every problem."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"is no TOML: {error}") from error
    if data.get("steps"):
        raise ValueError("has several steps, each with an instruction of its own; only tasks of one step are read")
    try:
        return TaskConfiguration.model_validate(data)
    except ValidationError as error:
        problems = [(".".join(map(str, problem["loc"])), problem["msg"]) for problem in error.errors()]
        raise ValueError("; ".join(f"{place}: {text}" if place else text for place, text in problems)) from error


def _as_range(host: str) -> str | None:
    try:
        return str(ip_network(host, strict=False))
    except ValueError:
        return None


def _bytes(mebibytes: float | None, text: str | None) -> int | None:
    if mebibytes is not None:
        return int(mebibytes * _MEBIBYTE)
    match = _SIZE.fullmatch(text.strip()) if text else None
    return int(float(match[1]) * _UNITS[match[2].upper()]) if match else None
