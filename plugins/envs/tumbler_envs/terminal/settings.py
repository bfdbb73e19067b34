"""The settings of `terminal`; knows nothing of how tasks are read, made or judged."""

from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, field_validator, model_validator

from tumbler.config import Settings

__all__ = [
    "MAX_EDITS",
    "EditKind",
    "GeneratedSettings",
    "NetworkSettings",
    "ResourceSettings",
    "TerminalSettings",
    "ToolName",
]

EditKind: TypeAlias = Literal[
    "rename-key", "set-value", "append-line", "move-files", "fix-name", "count-lines", "replace-word"
]
"""What a generated task asks to do with files."""

ToolName: TypeAlias = Literal["shell", "write_file"]

MAX_EDITS = 8

_Edits: TypeAlias = Annotated[int, Field(ge=1, le=MAX_EDITS)]


class GeneratedSettings(Settings):
    """What tasks drawn from a seed look like; they are used where no `folder` is named."""

    kinds: tuple[EditKind, ...] = Field(
        default=("rename-key", "set-value", "append-line", "move-files", "fix-name", "count-lines", "replace-word"),
        min_length=1,
    )
    """The kinds of edits; a kind named twice is drawn twice as often."""

    edits: _Edits | tuple[_Edits, _Edits] = 1
    """How many edits one task asks for, 1 to 8, all of which must be right; a pair [low, high] draws for each task."""

    distractors: int = Field(default=2, ge=0, le=8)
    """Files lying about that no edit touches, and that must stay as they are."""

    @property
    def edit_bounds(self) -> tuple[int, int]:
        """Return the fewest and the most edits of a task."""
        return self.edits if isinstance(self.edits, tuple) else (self.edits, self.edits)

    @field_validator("edits")
    @classmethod
    def _check_order(cls, value: int | tuple[int, int]) -> int | tuple[int, int]:
        if isinstance(value, tuple) and value[0] > value[1]:
            raise ValueError(f"edits = {list(value)}: the first number is the lower bound; write {sorted(value)}")
        return value


class NetworkSettings(Settings):
    """What a task's sandbox may reach."""

    mode: Literal["none", "allowlist", "public", "task"] = "none"
    """`none`, `allowlist` and `public` hold for every task; `task` is what the task's own task.toml says, where saying
    nothing is `public`."""

    hosts: tuple[str, ...] = ()
    """For `allowlist`: names such as `pypi.org`, or `*.pythonhosted.org` for all below a name."""

    cidrs: tuple[str, ...] = ()
    """For `allowlist`: address ranges such as `203.0.113.0/24`."""

    @model_validator(mode="after")
    def _check_lists(self) -> Self:
        if (self.hosts or self.cidrs) and self.mode != "allowlist":
            raise ValueError(f'mode = "{self.mode}" allows no list: write mode = "allowlist", or no hosts and cidrs')
        return self


class ResourceSettings(Settings):
    """Upper limits of a sandbox where its task names none; None is the backend's default."""

    cpus: float | None = Field(default=None, gt=0)
    """Processors."""

    memory_bytes: int | None = Field(default=1 << 30, gt=0)
    """Memory, in bytes."""

    disk_bytes: int | None = Field(default=None, gt=0)
    """What may be written in all, in bytes."""

    processes: int | None = Field(default=256, gt=0)
    """Processes and threads."""

    open_files: int | None = Field(default=None, gt=0)
    """Open files of one process."""


class TerminalSettings(Settings):
    """Where the tasks come from, the sandboxes they are done in, and how they are judged."""

    folder: Path | None = None
    """A folder in which each sub-folder with a task.toml is one task, or such a task's own folder, relative to where
    the run is started. None is tasks drawn from the seed."""

    include: tuple[str, ...] = Field(default=("*",), min_length=1)
    """Patterns of the names of the tasks in `folder` that are used."""

    generate: GeneratedSettings = GeneratedSettings()
    """What the tasks drawn from the seed look like."""

    split_field: str = "split"
    """The field of [metadata] in a task.toml that says "train" or "held-out"."""

    held_out_share: float = Field(default=0.2, ge=0.0, le=1.0)
    """The share of tasks, of those that do not say their split, that are held out; a hash decides which."""

    images: dict[str, str] = Field(default_factory=dict)
    """Patterns of tasks' names → the image that their sandboxes start from: what the sandbox backend calls an image, or
    a folder or tar archive of this machine. It stands for a task's Dockerfile, which is never built here. The first
    pattern that fits counts."""

    workdir: str = Field(default="/app", pattern=r"^/.")
    """Where a task's files lie and its shell starts, unless its task.toml says where."""

    user: str | None = None
    """Who runs the commands; None is whom the task names, or else the backend's unprivileged default."""

    resources: ResourceSettings = ResourceSettings()
    """The limits of a sandbox where its task names none."""

    network: NetworkSettings = NetworkSettings()
    """What a sandbox may reach while the agent works."""

    verifier_network: NetworkSettings | None = None
    """What it may reach while its tests run; None is the same, or with `task` what the task says of its verifier."""

    tools: tuple[ToolName, ...] = Field(default=("shell",), min_length=1)
    """`shell`: one bash that keeps its folder and variables. `write_file`: writes a text to a file."""

    command_timeout: float = Field(default=60.0, gt=0.0)
    """Seconds that one command may take; the agent is told when it took longer."""

    verifier_timeout: float | None = Field(default=None, gt=0.0)
    """Seconds that a task's tests may take; None is as many as its task.toml gives them."""

    observation_limit: int = Field(default=10_000, ge=200, le=200_000)
    """Characters that the agent sees of one command's output: its beginning and its end."""

    ttl: float = Field(default=7200.0, gt=0.0)
    """Seconds after which a sandbox may be reaped, whoever still holds it; more than an episode takes."""

    reward_key: str = "reward"
    """The reward that counts where the tests write several, by name, to reward.json."""

    solved_at: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    """The least reward with which a task counts as solved; then its reward is the episode's."""

    failure_reward: float = Field(default=0.0, le=0.0, allow_inf_nan=False)
    """The reward of a task that is not solved, whatever its tests gave."""
