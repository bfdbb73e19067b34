"""What an environment is: tasks, observations, steps and a verdict (GEM and Gymnasium semantics)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from tumbler.contracts.sandbox import Sandbox, SandboxSpec
from tumbler.contracts.values import JSON, ToolCall, ToolSpec

__all__ = [
    "Environment",
    "EnvironmentCapabilities",
    "Expert",
    "ExpertAction",
    "ExpertEnvironment",
    "Observation",
    "ResumableEnvironment",
    "StepResult",
    "Task",
    "Verdict",
]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One problem. `metadata` is JSON: a task crosses processes and is written to disk.

    The policy sees `instruction` and what the environment shows, never `metadata`.
    """

    id: str
    instruction: str
    split: str = "train"
    metadata: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What the agent sees first; an empty text means that the instruction says it all."""

    text: str = ""


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What one tool call brought about.

    `terminated` and `truncated` are Gymnasium's: the task ended by its own rules, or was cut off.
    `errored` marks an execution error in this turn and `relevant` whether the turn served the task;
    supervised training masks chunks by both (Eq. 1-2 of arXiv 2512.24873).
    """

    observation: str
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    errored: bool = False
    relevant: bool = True
    info: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome of a finished episode; `reward` is positive only if the task was solved."""

    reward: float
    success: bool
    details: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class EnvironmentCapabilities:
    """What an environment needs and can do; the core relies on nothing that is not declared here."""

    needs_sandbox: bool = False
    replayable: bool = True
    """Whether equal seeds and equal calls give equal observations, so that anchors can be replayed."""
    multi_turn: bool = True


@runtime_checkable
class Environment(Protocol):
    """One environment instance: it serves one episode at a time and is built from its settings.

    The core builds one instance for each concurrent episode, with the validated settings as the only
    argument, and calls `reset`, `step` any number of times, `verify` and `close`, in this order.
    Raise errors whose `infra` is true for failures of infrastructure: those episodes are re-rolled.
    """

    @property
    def capabilities(self) -> EnvironmentCapabilities:
        """Say what the environment needs and can do."""
        ...

    async def tasks(self, split: str, *, count: int, seed: int) -> Sequence[Task]:
        """Return up to `count` tasks of the split ("train" or "held-out"), equal for equal seeds.

        Splits are disjoint for every pair of seeds. A finite set returns fewer when it has fewer.
        """
        ...

    def tools(self) -> Sequence[ToolSpec]:
        """Return the tools that `step` accepts."""
        ...

    def sandbox_spec(self, task: Task) -> SandboxSpec | None:
        """Return the sandbox that the task needs, or None."""
        ...

    async def reset(self, task: Task, *, seed: int, sandbox: Sandbox | None) -> Observation:
        """Lay out the task (into the sandbox if there is one) and return the first observation."""
        ...

    async def step(self, call: ToolCall) -> StepResult:
        """Carry out one tool call. A malformed call is answered in the observation, not raised."""
        ...

    async def verify(self) -> Verdict:
        """Judge the episode. Hidden tests enter the sandbox only now."""
        ...

    async def close(self) -> None:
        """Let go of everything; the sandbox is the core's to delete. Must be safe to call twice."""
        ...


@dataclass(frozen=True, kw_only=True)
class ExpertAction:
    """One action of an expert; `relevant` is false for a detour that must not be imitated."""

    call: ToolCall
    relevant: bool = True


@runtime_checkable
class Expert(Protocol):
    """A scripted teacher for one episode."""

    def act(self, observation: str) -> ExpertAction | None:
        """Return the next action, or None when the task is done."""
        ...


@runtime_checkable
class ExpertEnvironment(Protocol):
    """Optional: an environment with a teacher, for demonstrations and for anchors."""

    def expert(self, task: Task, *, seed: int) -> Expert:
        """Return an expert for the task; equal seeds act equally."""
        ...


@runtime_checkable
class ResumableEnvironment(Protocol):
    """Optional: an environment whose episodes go on in a copy of their sandbox, so that anchors can be forked."""

    async def state(self) -> JSON:
        """Return what an episode holds outside of the sandbox's files, as JSON: its shell's folder, its counters."""
        ...

    async def resume(self, task: Task, *, seed: int, sandbox: Sandbox | None, state: JSON) -> None:
        """Take up, in place of `reset`, an episode of the task where `state` was taken.

        `sandbox` is a copy of the episode's sandbox as it was then; None if the environment needs none.
        """
        ...

    async def fingerprint(self) -> str:
        """Return a digest of all that the agent could find out now; equal states give equal ones."""
        ...
