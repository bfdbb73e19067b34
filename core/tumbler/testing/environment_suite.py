"""The contract of environments as tests; knows no environment and no policy."""

import json
import math
from collections.abc import Sequence

import pytest

from tumbler.contracts.environment import (
    Environment,
    EnvironmentCapabilities,
    ExpertEnvironment,
    StepResult,
    Task,
    Verdict,
)
from tumbler.contracts.sandbox import SandboxBackend, SandboxSpec
from tumbler.contracts.values import JSON, ToolCall
from tumbler.testing.environment_episodes import Build, Played, episode, play
from tumbler.testing.environment_resuming import ResumingTests
from tumbler.testing.memory_sandbox import MemorySandboxBackend
from tumbler.testing.suite import asynchronous

__all__ = ["EnvironmentSuite"]

SPLITS = ("train", "held-out")
_TASKS = 4
_ODD: tuple[JSON, ...] = (None, True, -1, 1e300, "", "\0", "é" * 5000, [], [[1]], {}, {"x": None})


class EnvironmentSuite(ResumingTests):
    """Subclass it with the fixture `make_environment`.

    An environment that needs a sandbox gets one in memory, with no commands to speak of; give it a
    real one with the fixture `sandboxes`. Tests of an expert, and of resuming, are skipped where there is none.
    """

    @pytest.fixture
    def make_environment(self) -> Build:
        """Override: return a function that builds a new instance."""
        raise NotImplementedError("define the fixture make_environment: a function that builds the environment")

    @pytest.fixture
    def sandboxes(self) -> SandboxBackend:
        """Override for an environment that runs real commands: return a backend that is not yet started."""
        return MemorySandboxBackend()

    def test_it_says_what_it_needs(self, make_environment: Build) -> None:
        """`capabilities` are there before any episode."""
        assert isinstance(make_environment().capabilities, EnvironmentCapabilities)

    @asynchronous
    async def test_equal_seeds_give_equal_tasks(self, make_environment: Build) -> None:
        """Also from another instance, since each process builds its own."""
        for split in SPLITS:
            once = await make_environment().tasks(split, count=_TASKS, seed=3)
            again = await make_environment().tasks(split, count=_TASKS, seed=3)
            assert list(once) == list(again), f"tasks({split!r}, seed=3) differ from call to call"

    @asynchronous
    async def test_there_are_tasks_and_never_more_than_asked_for(self, make_environment: Build) -> None:
        """A finite set may return fewer, but not none."""
        for split in SPLITS:
            for count in (1, _TASKS):
                tasks = await make_environment().tasks(split, count=count, seed=0)
                assert 0 < len(tasks) <= count, f"{count} tasks of {split!r} asked for, {len(tasks)} returned"
                assert len({task.id for task in tasks}) == len(tasks), f"ids of {split!r} tasks are not unique"
                assert {task.split for task in tasks} == {split}, f"tasks must say that their split is {split!r}"

    @asynchronous
    async def test_splits_are_disjoint_for_every_pair_of_seeds(self, make_environment: Build) -> None:
        """What is learned on one split is never asked on the other."""
        train, held_out = [
            [task for seed in range(5) for task in await make_environment().tasks(split, count=_TASKS * 4, seed=seed)]
            for split in SPLITS
        ]
        shared = {task.id for task in train} & {task.id for task in held_out}
        assert not shared, f"tasks of both splits: {sorted(shared)}"
        contents = [{_content(task) for task in split if task.metadata} for split in (train, held_out)]
        assert not contents[0] & contents[1], "a task of one split is, but for its id, also in the other"

    @asynchronous
    async def test_tasks_are_plain_json(self, make_environment: Build) -> None:
        """A task crosses processes and is written to disk."""
        for task in await make_environment().tasks("train", count=_TASKS, seed=0):
            metadata = json.loads(json.dumps(task.metadata, allow_nan=False))
            assert metadata == task.metadata, f"metadata of {task.id!r} does not survive JSON (tuples? int keys?)"

    def test_tools_are_described(self, make_environment: Build) -> None:
        """Names are unique, and arguments are JSON Schema."""
        tools = make_environment().tools()
        assert tools, "an environment offers at least one tool"
        assert len({tool.name for tool in tools}) == len(tools), "two tools have one name"
        for tool in tools:
            assert tool.name and tool.description, f"tool {tool.name!r} needs a name and a description"
            assert json.loads(json.dumps(tool.parameters)) == tool.parameters, f"{tool.name}: parameters are not JSON"

    @asynchronous
    async def test_a_sandbox_is_asked_for_as_declared(self, make_environment: Build) -> None:
        """The core relies on `needs_sandbox` before it sees a task."""
        environment = make_environment()
        for task in await environment.tasks("train", count=_TASKS, seed=0):
            spec = environment.sandbox_spec(task)
            assert spec is None or isinstance(spec, SandboxSpec)
            assert (spec is not None) == environment.capabilities.needs_sandbox, "sandbox_spec and needs_sandbox differ"

    @asynchronous
    async def test_an_episode_that_does_nothing_solves_nothing(
        self, make_environment: Build, sandboxes: SandboxBackend
    ) -> None:
        """Otherwise every policy looks good."""
        async with episode(make_environment(), sandboxes) as (environment, _observation, _task):
            verdict = await environment.verify()
            assert not verdict.success and verdict.reward <= 0, f"doing nothing was judged {verdict}"

    @asynchronous
    async def test_a_call_of_an_unknown_tool_is_answered(
        self, make_environment: Build, sandboxes: SandboxBackend
    ) -> None:
        """It counts as an error of the turn, and the episode goes on."""
        async with episode(make_environment(), sandboxes) as (environment, _observation, _task):
            result = await environment.step(ToolCall(name="no-such-tool"))
            assert isinstance(result, StepResult) and result.observation, "say what is wrong with the call"
            assert result.errored, "a call of a tool that does not exist must be marked as errored"

    @asynchronous
    async def test_malformed_arguments_are_answered(self, make_environment: Build, sandboxes: SandboxBackend) -> None:
        """A policy writes anything; none of it may raise."""
        for tool in make_environment().tools():
            for arguments in _odd_arguments(tool.parameters):
                call = ToolCall(name=tool.name, arguments=arguments)
                async with episode(make_environment(), sandboxes) as (environment, _observation, _task):
                    result = await environment.step(call)
                    assert isinstance(result, StepResult), f"{call} was answered with {result!r}"
                    assert isinstance(result.observation, str) and math.isfinite(result.reward), f"{call}: {result}"

    @asynchronous
    async def test_a_verdict_is_consistent(self, make_environment: Build, sandboxes: SandboxBackend) -> None:
        """The reward is positive only if the task was solved, and the details are JSON."""
        for played in [await play(make_environment, sandboxes, acting=acting) for acting in (False, True)]:
            verdict = played.verdict
            assert isinstance(verdict, Verdict) and math.isfinite(verdict.reward)
            assert verdict.success or verdict.reward <= 0, f"a failure was rewarded: {verdict}"
            assert json.loads(json.dumps(verdict.details)) == verdict.details, "details are not JSON"

    @asynchronous
    async def test_closing_is_safe_at_any_time(self, make_environment: Build, sandboxes: SandboxBackend) -> None:
        """Before a reset, within an episode, and twice."""
        await make_environment().close()
        async with episode(make_environment(), sandboxes) as (environment, _observation, _task):
            await environment.close()
            await environment.close()

    @asynchronous
    async def test_a_replayable_environment_replays(self, make_environment: Build, sandboxes: SandboxBackend) -> None:
        """Equal seeds and equal calls give equal observations, so that rollouts can start from an anchor."""
        if not make_environment().capabilities.replayable:
            pytest.skip("the environment does not claim to be replayable")
        first = await play(make_environment, sandboxes)
        again = await play(make_environment, sandboxes, calls=first.calls)
        assert first.seen == again.seen, "equal calls gave other observations, rewards or flags"

    @asynchronous
    async def test_two_episodes_do_not_see_each_other(self, make_environment: Build, sandboxes: SandboxBackend) -> None:
        """The core builds one instance for each concurrent episode; what they share must not change."""
        if not make_environment().capabilities.replayable:
            pytest.skip("the environment does not claim to be replayable")
        alone = await play(make_environment, sandboxes)
        beside = Played()
        async with (
            episode(make_environment(), sandboxes) as (environment, observation, _task),
            episode(make_environment(), sandboxes, seed=17, index=1) as (other, _other_observation, _other_task),
        ):
            beside.seen.append((observation.text,))
            over = False
            for call in alone.calls:
                if not over:
                    result = await other.step(call)
                    over = result.terminated or result.truncated
                beside.note(await environment.step(call))
        assert beside.seen == alone.seen, "an episode went another way because a second one ran beside it"

    @asynchronous
    async def test_the_expert_solves_its_tasks(self, make_environment: Build, sandboxes: SandboxBackend) -> None:
        """Of both splits; its demonstrations are what supervised training learns from."""
        _expert_of(make_environment())
        for split in SPLITS:
            for index in range(_TASKS):
                played = await play(make_environment, sandboxes, split=split, index=index)
                assert played.verdict and played.verdict.success, f"the expert failed {split} task {index}"

    @asynchronous
    async def test_an_expert_acts_equally_for_equal_seeds(
        self, make_environment: Build, sandboxes: SandboxBackend
    ) -> None:
        """Anchors of one expert are shared by a group of rollouts."""
        _expert_of(make_environment())
        once, again = [(await play(make_environment, sandboxes)).calls for _ in range(2)]
        assert once == again, "two experts with one seed called differently"


def _content(task: Task) -> str:
    return json.dumps([task.instruction, task.metadata], sort_keys=True, default=str)


def _expert_of(environment: Environment) -> ExpertEnvironment:
    if not isinstance(environment, ExpertEnvironment):
        pytest.skip("the environment has no expert")
    return environment


def _odd_arguments(parameters: object) -> Sequence[dict[str, JSON]]:
    """Return arguments that no schema asks for: none, unknown ones, and each declared one with an odd value."""
    properties = parameters.get("properties", {}) if isinstance(parameters, dict) else {}
    return [{}, {"no such argument": 1}, *({name: odd} for name in properties for odd in _ODD)]
