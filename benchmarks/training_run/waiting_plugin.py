"""What the benchmark adds to Tumbler: the environment that waits, and GRPO that compares the two engines.

Plays the part of a plugin of somebody else; the run around it is the ordinary one.
"""

import asyncio
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from contender import Told
from world import Episode, Shape, Waits, instruction

from tumbler import hookimpl
from tumbler.config import Settings
from tumbler.contracts.environment import EnvironmentCapabilities, Observation, StepResult, Task, Verdict
from tumbler.contracts.sandbox import Sandbox, SandboxSpec
from tumbler.contracts.values import ToolCall, ToolSpec
from tumbler.observers import StepMetrics
from tumbler.specs import AlgorithmSpec, EnvironmentSpec
from tumbler.trajectory import Trajectory

if TYPE_CHECKING:
    from tumbler.contracts.algorithm import Algorithm

__all__ = ["told", "tumbler_algorithms", "tumbler_environments", "tumbler_step_finished", "tumbler_trajectory_finished"]

told = Told()
"""What is found out while the run goes on; the process has one run."""
_rewards: list[float] = []
_waits: list[Waits] = []


class WaitingSettings(Settings):
    """The shape of an episode, as `world.Shape` has it."""

    latency: str
    seed: int
    turns: int
    answer: int
    instruction: int


class Waiting:
    """An environment that takes its time."""

    def __init__(self, settings: WaitingSettings) -> None:
        """Keep the settings; all instances wait by one sequence of times."""
        self._settings = settings
        self._shape = Shape(turns=settings.turns, answer=settings.answer, instruction=settings.instruction)
        if not _waits:
            _waits.append(Waits(settings.latency, settings.seed))

    @property
    def capabilities(self) -> EnvironmentCapabilities:
        """Need nothing."""
        return EnvironmentCapabilities()

    async def tasks(self, split: str, *, count: int, seed: int) -> Sequence[Task]:
        """Return tasks that differ in their words."""
        return [
            Task(id=f"{split}-{seed}-{index}", instruction=instruction(f"{seed}/{index}", self._settings.instruction))
            for index in range(count)
        ]

    def tools(self) -> Sequence[ToolSpec]:
        """Return the one tool."""
        return [ToolSpec(name="shell", description="Runs a command and shows what it prints.")]

    def sandbox_spec(self, task: Task) -> SandboxSpec | None:
        """Need no sandbox."""
        return None

    async def reset(self, task: Task, *, seed: int, sandbox: Sandbox | None) -> Observation:
        """Begin."""
        self._episode = Episode(task.instruction, self._shape)
        return Observation()

    async def step(self, call: ToolCall) -> StepResult:
        """Answer after a while; the answer to the last call is read by nobody, and takes no time."""
        answer = self._episode.act(str(call.arguments["command"]))
        if self._episode.over:
            return StepResult(observation=answer, terminated=True)
        await asyncio.sleep(_waits[0].next())
        return StepResult(observation=answer)

    async def verify(self) -> Verdict:
        """Judge all that was said."""
        return Verdict(reward=self._episode.reward(), success=True)

    async def close(self) -> None:
        """Hold nothing."""


def _environment() -> type[Waiting]:
    return Waiting


def _environment_settings() -> type[WaitingSettings]:
    return WaitingSettings


def _watched() -> "type[Algorithm]":
    from watched import WatchedGRPO

    return WatchedGRPO


def _watched_settings() -> type[Settings]:
    from tumbler_algorithms.grpo.settings import GRPOSettings

    return GRPOSettings


@hookimpl
def tumbler_environments() -> list[EnvironmentSpec]:
    """Provide the environment."""
    return [
        EnvironmentSpec(
            name="waiting", summary="Answers after a while.", load=_environment, config=_environment_settings
        )
    ]


@hookimpl
def tumbler_algorithms() -> list[AlgorithmSpec]:
    """Provide the algorithm."""
    return [AlgorithmSpec(name="watched-grpo", summary="GRPO, watched.", load=_watched, config=_watched_settings)]


@hookimpl
def tumbler_trajectory_finished(trajectory: Trajectory) -> None:
    """Note the reward."""
    _rewards.append(trajectory.reward or 0.0)


@hookimpl
def tumbler_step_finished(metrics: StepMetrics) -> None:
    """Note that a step has ended."""
    told.end_step(sampled=int(metrics.values["train/trainable_tokens"]), spread=statistics.pstdev(_rewards))
