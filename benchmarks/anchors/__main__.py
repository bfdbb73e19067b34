"""What it takes to bring a rollout to its anchor: by replaying the expert's calls, or in a fork of a sandbox.

Rollouts of `trail` in bubblewrap, one after the other, replays and forks in turns so that both meet the same load.
`--work` adds seconds of waiting in the sandbox to each call, as a compiler or a test suite would; the commands of
`trail` alone take about a millisecond.

    python benchmarks/anchors
"""

import argparse
import asyncio
import statistics
from collections.abc import Sequence
from functools import partial

from tumbler.contracts.agent import Limits
from tumbler.contracts.environment import StepResult, Task
from tumbler.contracts.execution import RolloutRequest
from tumbler.contracts.inference import Sampling
from tumbler.contracts.sandbox import SandboxBackend
from tumbler.contracts.values import ToolCall
from tumbler.rollout.runner import EpisodeParts, LocalEpisodeRunner, NamedEnvironment
from tumbler.testing.fakes import CharacterTokenizer, ScriptedInference
from tumbler.trajectory import Anchor, Component, Trajectory
from tumbler_agents.react.agent import ReactAgent
from tumbler_agents.react.settings import ReactSettings
from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings
from tumbler_envs.trail.environment import TrailEnvironment
from tumbler_envs.trail.settings import TrailSettings

CHUNKS = (4, 8, 16)
TRAIL = TrailSettings(steps=16, branching=2, distractors=4)
COMPONENT = Component(id="benchmark", version="0", settings_hash="0")


class WorkingTrail(TrailEnvironment):
    """`trail` whose calls take longer."""

    def __init__(self, work: float) -> None:
        """Wait `work` seconds in the sandbox's shell before each call."""
        super().__init__(TRAIL)
        self._work = work

    async def step(self, call: ToolCall) -> StepResult:
        """Wait, and carry out the call."""
        if self._work:
            await super().step(ToolCall(name=call.name, arguments={"command": f"sleep {self._work}"}))
        return await super().step(call)


def parts(backend: SandboxBackend, work: float) -> EpisodeParts:
    """Return an episode's parts; the policy ends each episode at once."""
    inference = ScriptedInference(lambda _: "done", CharacterTokenizer(1 << 16))
    return EpisodeParts(
        environments={"trail": NamedEnvironment(build=partial(WorkingTrail, work), component=COMPONENT)},
        agent=ReactAgent(ReactSettings()),
        agent_component=COMPONENT,
        strategies=[],
        strategy_components=(),
        tokenizer=inference.tokenizer,
        inference=inference,
        sandboxes=backend,
        limits=Limits(turns=64),
    )


def request(task: Task, name: str, anchor: Anchor | None = None, *, fork: bool = False) -> RolloutRequest:
    """Return the request for an expert's episode, or for a rollout from an anchor."""
    return RolloutRequest(
        id=name,
        task=task,
        seed=0,
        group="benchmark",
        sampling=Sampling(),
        env="trail",
        source="expert" if anchor is None else "policy",
        anchor=anchor,
        fork=fork,
    )


def reached(trajectory: Trajectory) -> float:
    """Return the seconds until the policy had its turn, without waiting for a preparation."""
    assert trajectory.status == "completed", trajectory.status_reason
    return sum(trajectory.seconds[phase] for phase in ("sandbox", "reset", "tools"))


async def measure(backend: SandboxBackend, work: float, chunks: int, rounds: int) -> tuple[float, float, float]:
    """Return the median seconds of a replay, of a fork, and of one preparation."""
    (task,) = await TrailEnvironment(TRAIL).tasks("train", count=1, seed=0)
    expert = await LocalEpisodeRunner(parts(backend, 0.0))(request(task, "expert"))
    anchor = Anchor(expert=expert, chunk=chunks)
    replays, forks, preparations = [], [], []
    for index in range(rounds):
        runner = LocalEpisodeRunner(parts(backend, work))
        replays.append(reached(await runner(request(task, f"replay-{index}", anchor))))
        first = await runner(request(task, f"first-{index}", anchor, fork=True))
        preparations.append(first.seconds["anchor"])
        later = await runner(request(task, f"fork-{index}", anchor, fork=True))
        assert later.details["anchor_restored_by"] == "fork"
        forks.append(statistics.median([reached(first), reached(later)]))
        await runner.close()
    return statistics.median(replays), statistics.median(forks), statistics.median(preparations)


async def run(works: Sequence[float], rounds: int, group: int) -> None:
    """Print one row for each kind of call and number of chunks."""
    backend = BubblewrapBackend(BubblewrapSettings())
    await backend.start()
    print(f"| a call takes | chunks | replay, ms | fork, ms | preparation, ms | group of {group}: fork / replay |")
    print("|---|---|---|---|---|---|")
    try:
        for work in works:
            for chunks in CHUNKS:
                replay, fork, preparation = await measure(backend, work, chunks, rounds)
                ratio = (preparation + group * fork) / (group * replay)
                figures = " | ".join(f"{1e3 * each:.0f}" for each in (replay, fork, preparation))
                label = f"{work:g} s" if work else "about 1 ms"
                print(f"| {label} | {chunks} | {figures} | {ratio:.2f} |", flush=True)
    finally:
        await backend.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=float, nargs="*", default=[0.0, 0.1], help="seconds added to each call")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--group", type=int, default=8, help="rollouts from one anchor, for the last column")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.work, arguments.rounds, arguments.group))
