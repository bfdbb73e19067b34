"""Whole episodes of programs: a scripted policy behind the real gateway, and a task in a sandbox without a network.

`play` returns the trajectory that a training step would get, and what the policy was asked.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from tumbler.contracts.agent import Limits, Outcome
from tumbler.contracts.environment import Task
from tumbler.contracts.execution import RolloutRequest
from tumbler.contracts.inference import Generation, Sampling, TextTokenizer
from tumbler.contracts.sandbox import SandboxBackend
from tumbler.rollout.runner import EpisodeParts, LocalEpisodeRunner, NamedEnvironment
from tumbler.testing.fakes import CharacterTokenizer, ScriptedInference
from tumbler.trajectory.record import Component, Trajectory
from tumbler_agents.process.packages.cache import default_cache
from tumbler_agents.process.program import ProgramAgent
from tumbler_backends.gateway.gateway import HttpGateway
from tumbler_backends.gateway.settings import GatewaySettings
from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings
from tumbler_envs.terminal.environment import TerminalEnvironment
from tumbler_envs.terminal.settings import TerminalSettings

_COMPONENT = Component(id="sample", version="0", settings_hash="0")

Policy = Callable[[str], str]


def call(name: str, **arguments: object) -> str:
    """Return a reply that calls a tool."""
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def in_order(replies: Sequence[str]) -> Policy:
    """Return a policy that gives the replies one after the other, and then the last one for ever."""
    left = list(replies)
    return lambda _prompt: left.pop(0) if len(left) > 1 else left[0]


class WatchedInference(ScriptedInference):
    """A scripted policy that keeps what it said, and can have requests wait for each other."""

    def __init__(
        self,
        policy: Policy,
        *,
        tokenizer: TextTokenizer | None = None,
        ids: Callable[[str, int], Sequence[int]] | None = None,
        together: int = 1,
        waits: Callable[[str], bool] = lambda _prompt: False,
    ):
        """Let requests whose prompt `waits` says wait until `together` of them are there.

        `ids` are what a text is sampled as, by the request's seed; by default what the tokenizer gives.
        """
        super().__init__(policy, tokenizer or CharacterTokenizer(1 << 20))
        self.said: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
        self._ids = ids
        self._together = together
        self._waits = waits
        self._waiting = 0
        self._all_there = asyncio.Event()

    async def generate(self, request) -> Generation:
        if self._waits(self.tokenizer.decode(request.token_ids)):
            self._waiting += 1
            if self._waiting >= self._together:
                self._all_there.set()
            async with asyncio.timeout(300):
                await self._all_there.wait()
        generation = await super().generate(request)
        if self._ids is not None:
            sampled = (
                *self._ids(self.tokenizer.decode(generation.token_ids), request.seed),
                self.tokenizer.end_of_turn,
            )
            generation = replace(generation, token_ids=sampled, logprobs=(-0.5,) * len(sampled))
        self.said.append((tuple(request.token_ids), tuple(generation.token_ids)))
        return generation


@dataclass(frozen=True, kw_only=True)
class Played:
    """An episode that is over."""

    trajectory: Trajectory
    inference: WatchedInference
    outcomes: Sequence[Outcome]

    @property
    def prompts(self) -> list[str]:
        """Return what the policy was asked, in order."""
        return [self.inference.tokenizer.decode(prompt) for prompt, _ in self.inference.said]

    @property
    def program(self) -> dict:
        """Return what was kept of the program."""
        return self.outcomes[0].details["program"]

    def check_tokens(self) -> None:
        """Check that the record holds what was sampled, each token once, after the prompt that it was sampled for."""
        trajectory = self.trajectory
        recorded = []
        for chunk in trajectory.chunks:
            token_ids = trajectory.segments[chunk.segment].token_ids
            recorded.append((token_ids[: chunk.start], token_ids[chunk.start : chunk.end]))
        assert Counter(recorded) == Counter(self.inference.said)
        assert all(chunk.sampled and chunk.trainable for chunk in trajectory.chunks)


@dataclass
class Watched:
    """An agent whose outcomes are kept."""

    inner: ProgramAgent
    outcomes: list[Outcome] = field(default_factory=list)

    async def adapt_sandbox(self, spec):
        return await self.inner.adapt_sandbox(spec)

    async def run(self, episode) -> Outcome:
        outcome = await self.inner.run(episode)
        self.outcomes.append(outcome)
        return outcome


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where episodes are played."""

    backend: SandboxBackend
    environment: TerminalEnvironment
    task: Task
    settings: TerminalSettings

    @property
    def solution(self) -> list[str]:
        """Return the commands that solve the task."""
        expert = self.environment.expert(self.task, seed=0)
        commands = []
        while (action := expert.act("")) is not None:
            commands.append(str(action.call.arguments["command"]))
        return commands


@asynccontextmanager
async def stage(folder: Path, *, caches: Sequence[Path] = ()):
    """Open a sandbox backend that shows the installed programs, and choose a task."""
    mountable = (default_cache(), *caches)
    settings = BubblewrapSettings(root=folder / "sandboxes", cache=folder / "images", grace=0.2, mountable=mountable)
    backend = BubblewrapBackend(settings)
    await backend.start()
    try:
        yield await stage_on(backend, TerminalSettings())
    finally:
        await backend.close()


async def stage_on(backend: SandboxBackend, settings: TerminalSettings) -> Stage:
    """Return a stage on a backend that has started."""
    environment = TerminalEnvironment(settings)
    (task,) = await environment.tasks("train", count=1, seed=3)
    return Stage(backend=backend, environment=environment, task=task, settings=settings)


async def play(
    on: Stage, agent: ProgramAgent, inference: WatchedInference | Policy, *, turns: int = 12, seconds: float = 600.0
) -> Played:
    """Run one episode; the runner verifies its record."""
    inference = inference if isinstance(inference, WatchedInference) else WatchedInference(inference)
    await agent.prepare()
    gateway = HttpGateway(GatewaySettings())
    watched = Watched(agent)
    async with AsyncExitStack() as stack:
        await gateway.start()
        stack.push_async_callback(gateway.close)
        parts = EpisodeParts(
            environments={
                "terminal": NamedEnvironment(build=lambda: TerminalEnvironment(on.settings), component=_COMPONENT)
            },
            agent=watched,
            agent_component=_COMPONENT,
            strategies=(),
            strategy_components=(),
            tokenizer=inference.tokenizer,
            inference=inference,
            sandboxes=on.backend,
            limits=Limits(turns=turns, seconds=seconds),
            gateway=gateway,
        )
        request = RolloutRequest(
            id="episode",
            task=on.task,
            seed=1,
            env_seed=1,
            group="group",
            sampling=Sampling(max_tokens=8000),
            env="terminal",
        )
        trajectory = await LocalEpisodeRunner(parts)(request)
    return Played(trajectory=trajectory, inference=inference, outcomes=watched.outcomes)
