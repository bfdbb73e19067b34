"""What one task is, wherever it comes from; knows no sandbox that runs and no file format."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tumbler.contracts.environment import Task
from tumbler.contracts.sandbox import Healthcheck, NetworkPolicy, Resources

__all__ = ["TEST_SCRIPT", "TaskFile", "TaskSource", "TerminalTask"]

TEST_SCRIPT = "test.sh"
"""The one of the tests that is run."""


@dataclass(frozen=True, kw_only=True)
class TaskFile:
    """One file."""

    content: bytes
    executable: bool = False

    @property
    def mode(self) -> int:
        """Return its permission bits."""
        return 0o755 if self.executable else 0o644


@dataclass(frozen=True, kw_only=True)
class TerminalTask:
    """All that is needed to begin the task, to solve it and to judge it."""

    name: str
    files: Mapping[str, TaskFile]
    """What lies in the working folder at the start: path below it → file."""
    tests: Mapping[str, TaskFile]
    """What judges: path below the tests' folder → file. `TEST_SCRIPT` is run."""
    workdir: str
    solution: tuple[str, ...] = ()
    """The commands that solve it; empty where nobody wrote them down."""
    image: str | None = None
    user: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    verifier_env: Mapping[str, str] = field(default_factory=dict)
    verifier_timeout: float = 600.0
    """Seconds."""
    resources: Resources = field(default_factory=Resources)
    network: NetworkPolicy = field(default_factory=NetworkPolicy)
    """What the task asks for; the settings decide whether it gets it."""
    verifier_network: NetworkPolicy | None = None
    """None is the same as `network`."""
    healthcheck: Healthcheck | None = None


class TaskSource(Protocol):
    """Where tasks come from."""

    def tasks(self, split: str, *, count: int, seed: int) -> list[Task]:
        """Return up to `count` tasks of the split; fewer are a prefix of more."""
        ...

    def load(self, task: Task) -> TerminalTask:
        """Return all of a task that `tasks` returned, maybe in another process; raise `ContractError` for others."""
        ...
