"""What an execution backend is: where rollouts run, how many at a time, and what else runs there."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from tumbler.contracts.environment import Task
from tumbler.contracts.inference import InferenceBackend, Sampling
from tumbler.trajectory.record import Anchor, Trajectory

__all__ = [
    "ComponentRecipe",
    "DistributedExecution",
    "Engines",
    "EpisodeRunner",
    "ExecutionBackend",
    "PlacedRole",
    "RolloutRequest",
    "WorkerRecipe",
]

PlacedRole: TypeAlias = Literal["inference", "teacher", "training"]
"""What an execution backend may run elsewhere beside rollouts."""


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


@dataclass(frozen=True, kw_only=True)
class Engines:
    """What episodes ask for replies."""

    policy: InferenceBackend
    teacher: InferenceBackend | None = None


class ComponentRecipe(Protocol):
    """How to build a component of the run in another process; can be pickled."""

    @property
    def role(self) -> PlacedRole:
        """Return the role of the component."""
        ...

    @property
    def resume(self) -> str:
        """Return the command that goes on with the run, for the message when the component is lost for good."""
        ...

    def build(self) -> object:
        """Load the plugins here, and return the component, built and not started.

        Raises `RunError` where a plugin is of another version than in the process that began the run.
        """
        ...


class WorkerRecipe(Protocol):
    """How to run the episodes of the run in another process; can be pickled."""

    def open(self, engines: Engines) -> AbstractAsyncContextManager[EpisodeRunner]:
        """Load the plugins here, start sandboxes and gateway, and yield what runs an episode in this process.

        `engines` are reached from here, and are started. Leaving the context takes everything down. Raises as
        `ComponentRecipe.build` does.
        """
        ...


@runtime_checkable
class DistributedExecution(Protocol):
    """Optional: an execution backend that runs rollouts, and other components, in other processes.

    It is asked for `place` before any component is started, and for `start_workers` in place of `start`.
    """

    @property
    def distributed(self) -> bool:
        """Say whether its settings make it so; if not, it is used as any other execution backend."""
        ...

    async def place(self, recipe: ComponentRecipe) -> object | None:
        """Build the component where this backend wants it and return what stands for it here.

        The stand-in keeps the contract of the role; what it raises is what the component raised. None leaves
        the component in this process.
        """
        ...

    async def start_workers(self, recipe: WorkerRecipe, engines: Engines) -> None:
        """Start the workers. `engines` are the stand-ins that `place` returned, or the components of this process."""
        ...
