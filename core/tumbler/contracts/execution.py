"""What an execution backend is: where rollouts run, and how many at a time."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from tumbler.contracts.environment import Task
from tumbler.contracts.inference import Sampling
from tumbler.trajectory.record import Anchor, Trajectory

__all__ = ["EpisodeRunner", "ExecutionBackend", "RolloutRequest"]


@dataclass(frozen=True, kw_only=True)
class RolloutRequest:
    """One episode to run. Everything in it can cross processes."""

    id: str
    """Unique in the run; names the trajectory."""
    task: Task
    seed: int
    """Seeds what this rollout alone does: the policy's sampling, an expert's noise."""
    group: str
    sampling: Sampling
    env: str
    """The registry's name of the environment."""
    source: Literal["policy", "expert", "teacher"] = "policy"
    """Who acts: the inference backend, the environment's expert, or the inference backend of a teacher."""
    anchor: Anchor | None = None
    fork: bool = False
    """Whether the anchor's state may come from a copy of a sandbox that was there, in place of a replay."""
    env_seed: int = 0
    """Seeds the environment: equal for all rollouts of a task, so that anchors can be replayed."""
    attempt: int = 0
    """How often the rollout failed before for reasons of infrastructure."""


EpisodeRunner: TypeAlias = Callable[[RolloutRequest], Awaitable[Trajectory]]
"""Runs one episode here and now. Infrastructure failures come back as a status, never as an error."""


@runtime_checkable
class ExecutionBackend(Protocol):
    """Places rollouts."""

    async def start(self, runner: EpisodeRunner) -> None:
        """Make ready; `runner` runs an episode in this process."""
        ...

    @property
    def capacity(self) -> int:
        """Return how many rollouts may be in flight."""
        ...

    async def submit(self, request: RolloutRequest) -> Trajectory:
        """Run one rollout and return its trajectory. Cancelling the call cancels the episode."""
        ...

    async def health(self) -> Mapping[str, float]:
        """Return gauges: rollouts in flight, workers alive."""
        ...

    async def close(self) -> None:
        """Cancel what is in flight and wait until its sandboxes are gone."""
        ...
