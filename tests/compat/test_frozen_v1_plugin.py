"""A plugin written for `tumbler.v1` once and never edited since must load and work for ever."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from tumbler import hookspecs, observers
from tumbler.contracts.algorithm import Group, PlanState
from tumbler.contracts.environment import Task
from tumbler.contracts.execution import RolloutRequest
from tumbler.contracts.inference import GenerateRequest, Sampling
from tumbler.contracts.values import ToolCall
from tumbler.observers import RunInfo, StageInfo, StepMetrics
from tumbler.plugins import PluginHost
from tumbler.trajectory import Chunk, Component, Header, Segment, Trajectory, verify_trajectory

FOLDER = Path(__file__).parent / "frozen_v1"

V1_HOOKS = {
    "tumbler_agents",
    "tumbler_algorithms",
    "tumbler_backends",
    "tumbler_checkpoint_saved",
    "tumbler_context_strategies",
    "tumbler_environments",
    "tumbler_models",
    "tumbler_report",
    "tumbler_run_finished",
    "tumbler_run_started",
    "tumbler_stage_finished",
    "tumbler_stage_started",
    "tumbler_step_finished",
    "tumbler_trajectory_finished",
}
"""The hooks of the first release; later ones are not the frozen plugin's to implement."""


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[PluginHost]:
    """A host with the frozen plugin alone."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield PluginHost.load(entry_points=[EntryPoint("frozen", "frozen_v1_plugin", "tumbler.v1")])
    for name in ("frozen_v1_plugin", "frozen_v1_components"):
        sys.modules.pop(name, None)


@pytest.fixture
def task() -> Task:
    return Task(id="t", instruction="Count.")


@pytest.fixture
def trajectory() -> Trajectory:
    component = Component(id="frozen/counting", version="1", settings_hash="0")
    record = Trajectory(
        header=Header(id="one", task="t", env=component, agent=component),
        segments=(Segment(id=0, token_ids=(1, 2, 3)),),
        chunks=(Chunk(segment=0, start=1, end=3, behaviour_logprobs=(-0.1, -0.2), policy_version=0),),
        reward=1.0,
        success=True,
    )
    verify_trajectory(record)
    return record


def test_it_loads_with_all_hooks_of_the_first_release(host):
    assert host.check() == []
    (info,) = host.plugins
    assert info.status == "ok"
    assert set(info.hooks) == V1_HOOKS
    assert {name for name in V1_HOOKS if hasattr(hookspecs, name) or hasattr(observers, name)} == V1_HOOKS


def test_every_component_of_it_keeps_todays_contracts(host):
    offered = {(each.kind, each.id) for each in host.components()}
    assert offered == {
        ("agent", "frozen/one-call"),
        ("algorithm", "frozen/uniform"),
        ("backend", "frozen/echo"),
        ("backend", "frozen/no-sandboxes"),
        ("backend", "frozen/single"),
        ("backend", "frozen/still"),
        ("context-strategy", "frozen/keep-all"),
        ("environment", "frozen/counting"),
        ("model", "frozen/empty"),
    }
    for kind, component_id in offered:
        assert host.build(kind, component_id, {"goal": 3}).settings.goal == 3


async def test_its_environment_plays_an_episode(host, task):
    environment = host.build("environment", "frozen/counting", {"goal": 2})
    assert (await environment.reset(task, seed=0, sandbox=None)).text == "0"
    first, last = [await environment.step(ToolCall(name="count")) for _ in range(2)]
    assert (first.terminated, last.terminated) == (False, True)
    assert (await environment.verify()).success
    await environment.close()


def test_its_algorithm_plans_and_credits(host, task, trajectory):
    algorithm = host.build("algorithm", "frozen/uniform", {})
    plan = algorithm.plan([task], PlanState(step=0, seed=0))
    assert [(group.task, group.size) for group in plan.groups] == [(task, 2)]
    group = Group(id="g", task_id="t", trajectories=(trajectory, replace(trajectory, reward=0.0, success=False)))
    assert algorithm.credit(group) == [[1.0], [0.0]]


async def test_its_backends_serve(host, task, trajectory):
    engine = host.build("backend", "frozen/echo", {})
    generation = await engine.generate(GenerateRequest(token_ids=(5, 6), sampling=Sampling(max_tokens=1), seed=0))
    assert generation.token_ids == (5,)

    async def runner(request: RolloutRequest) -> Trajectory:
        return trajectory

    placing = host.build("backend", "frozen/single", {})
    await placing.start(runner)
    request = RolloutRequest(id="one", task=task, seed=0, group="g", sampling=Sampling(), env="counting")
    assert await placing.submit(request) is trajectory


def test_its_observers_hear_every_event(host, trajectory, tmp_path):
    stage = StageInfo(index=0, kind="rl", label="0-rl", steps=1)
    run = RunInfo(id="r", name="smoke", folder=tmp_path, resolved={}, stages=(stage,))
    metrics = StepMetrics(step=0, values={"train/loss": 0.5})
    emit = host.observers.emit
    emit("tumbler_run_started", run=run)
    emit("tumbler_stage_started", run=run, stage=stage)
    emit("tumbler_trajectory_finished", run=run, stage=stage, trajectory=trajectory)
    emit("tumbler_step_finished", run=run, stage=stage, metrics=metrics)
    emit("tumbler_stage_finished", run=run, stage=stage, result={"steps": 1})
    emit("tumbler_checkpoint_saved", run=run, stage=stage, path=tmp_path / "checkpoint")
    emit("tumbler_run_finished", run=run, result={"done": True})
    import frozen_v1_plugin

    assert frozen_v1_plugin.heard == [
        ("run_started", ("r", "smoke", tmp_path, {}, (stage,), False)),
        ("stage_started", ("r", 0, "rl", "0-rl", 1)),
        ("trajectory_finished", ("r", "0-rl", "one", 1.0, "completed")),
        ("step_finished", ("r", "0-rl", 0, {"train/loss": 0.5}, {})),
        ("stage_finished", ("r", "0-rl", {"steps": 1})),
        ("checkpoint_saved", tmp_path / "checkpoint"),
        ("run_finished", ("r", {"done": True})),
    ]
    assert host.observers.collect("tumbler_report", folder=tmp_path) == [("frozen", tmp_path / "frozen.txt")]
