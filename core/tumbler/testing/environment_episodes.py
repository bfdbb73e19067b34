"""Plays episodes for the suite of environments; judges nothing."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from tumbler.contracts.environment import (
    Environment,
    ExpertEnvironment,
    Observation,
    StepResult,
    Task,
    Verdict,
)
from tumbler.contracts.sandbox import SandboxBackend
from tumbler.contracts.values import ToolCall

__all__ = ["Build", "Played", "episode", "play"]

Build: TypeAlias = Callable[[], Environment]

_LONGEST = 500
"""Actions after which an expert is taken to go round in circles."""


@dataclass
class Played:
    """What one episode brought."""

    calls: list[ToolCall] = field(default_factory=list)
    seen: list[tuple[object, ...]] = field(default_factory=list)
    verdict: Verdict | None = None

    def note(self, result: StepResult) -> None:
        """Keep what a policy or a reward can depend on."""
        self.seen.append((result.observation, result.reward, result.terminated, result.truncated, result.errored))


@asynccontextmanager
async def episode(
    environment: Environment, sandboxes: SandboxBackend, *, split: str = "train", index: int = 0, seed: int = 5
) -> AsyncIterator[tuple[Environment, Observation, Task]]:
    """Reset the environment on a task, in a sandbox if it asks for one, and clean up afterwards."""
    tasks = await environment.tasks(split, count=index + 1, seed=1)
    task = tasks[index % len(tasks)]
    spec = environment.sandbox_spec(task)
    if spec is None:
        observation = await environment.reset(task, seed=seed, sandbox=None)
        try:
            yield environment, observation, task
        finally:
            await environment.close()
        return
    await sandboxes.start()
    sandbox = await sandboxes.create(spec)
    try:
        observation = await environment.reset(task, seed=seed, sandbox=sandbox)
        yield environment, observation, task
    finally:
        await environment.close()
        await sandbox.delete()


async def play(
    build: Build,
    sandboxes: SandboxBackend,
    *,
    calls: Sequence[ToolCall] | None = None,
    acting: bool = True,
    split: str = "train",
    index: int = 0,
) -> Played:
    """Play one episode: the calls given, else the expert's, else one call of each tool; none unless `acting`."""
    played = Played()
    async with episode(build(), sandboxes, split=split, index=index) as (environment, observation, task):
        assert isinstance(observation, Observation), f"reset returned {observation!r}"
        played.seen.append((observation.text,))
        if acting and calls is None and isinstance(environment, ExpertEnvironment):
            await _follow_expert(environment, environment, task, observation, played)
        elif acting:
            for call in calls if calls is not None else [ToolCall(name=tool.name) for tool in environment.tools()]:
                played.calls.append(call)
                played.note(await environment.step(call))
        played.verdict = await environment.verify()
    return played


async def _follow_expert(
    environment: Environment, teacher: ExpertEnvironment, task: Task, observation: Observation, played: Played
) -> None:
    expert = teacher.expert(task, seed=2)
    action = expert.act(observation.text)
    while action is not None:
        assert len(played.calls) < _LONGEST, f"the expert did not finish within {_LONGEST} actions"
        played.calls.append(action.call)
        result = await environment.step(action.call)
        played.note(result)
        if result.terminated or result.truncated:
            return
        action = expert.act(result.observation)
