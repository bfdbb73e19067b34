"""The contract of agent scaffolds as tests: real episodes of a two-step task, with scripted policies.

A scaffold that can write an expert's action (`Demonstrator`) is tested in its own protocol; one that cannot
is tested with replies that are none.
"""

import asyncio
from collections.abc import Callable

import pytest

from tumbler.contracts.agent import Agent, Demonstrator, Limits
from tumbler.contracts.environment import ExpertAction
from tumbler.contracts.execution import RolloutRequest
from tumbler.contracts.inference import Sampling
from tumbler.contracts.values import ToolCall
from tumbler.rollout.runner import EpisodeParts, LocalEpisodeRunner, NamedEnvironment
from tumbler.testing.fakes import CharacterTokenizer, ScriptedInference, TwoStepEnvironment, TwoStepSettings
from tumbler.testing.samples import sample_task
from tumbler.testing.suite import ContractSuite, asynchronous
from tumbler.trajectory.record import Component, Trajectory

__all__ = ["AgentSuite"]

_TURNS = 6
_ODD = ("", "hello", "\x00", "{", "}{", "é" * 300, "None", "<tool></tool>", "\n\n\n", "[1, 2")
_COMPONENT = Component(id="sample", version="0", settings_hash="0")

Policy = Callable[[str], str]


class AgentSuite(ContractSuite):
    """Subclass it with the fixture `agent`. Tests in the agent's own words need it to be a `Demonstrator`."""

    @pytest.fixture
    def agent(self) -> Agent:
        """Override: return the scaffold."""
        raise NotImplementedError("define the fixture agent: the scaffold to test")

    @asynchronous
    async def test_an_expert_solves_the_task_through_it(self, agent: Agent) -> None:
        """Demonstrations are written in the scaffold's own protocol."""
        _demonstrator(agent)
        trajectory = await _run(agent, expert=True)
        assert trajectory.success, f"the expert's words were not understood: {trajectory.status_reason}"
        assert [chunk.tool_calls[0].name for chunk in trajectory.chunks if chunk.tool_calls] == ["look", "say"]

    @asynchronous
    async def test_a_policy_that_says_the_same_does_the_same(self, agent: Agent) -> None:
        """What was learned from demonstrations works."""
        _demonstrator(agent)
        shown = await _run(agent, expert=True)
        spoken = await _run(agent, policy=_repeat([chunk.text for chunk in shown.chunks]))
        assert spoken.success
        assert [chunk.observation for chunk in spoken.chunks] == [chunk.observation for chunk in shown.chunks]

    @asynchronous
    async def test_an_expert_can_end_the_episode(self, agent: Agent) -> None:
        """None is the reply that ends it, after which the policy is not asked again."""
        ending = _demonstrator(agent).write_action(None)
        trajectory = await _run(agent, policy=_repeat([ending]))
        assert len(trajectory.chunks) == 1 and trajectory.status == "completed", f"after the end: {trajectory.status}"

    @asynchronous
    async def test_the_turn_limit_holds(self, agent: Agent) -> None:
        """A policy that never ends is cut off, and its episode counts."""
        looking = _demonstrator(agent).write_action(ExpertAction(call=ToolCall(name="look")))
        trajectory = await _run(agent, policy=_repeat([looking]))
        assert 0 < len(trajectory.chunks) <= _TURNS, f"{len(trajectory.chunks)} turns of at most {_TURNS}"
        assert trajectory.status == "truncated", f"an episode that was cut off has the status {trajectory.status}"

    @asynchronous
    async def test_replies_that_are_no_call_are_survived(self, agent: Agent) -> None:
        """They are answered or end the episode; never do they raise."""
        for odd in _ODD:
            trajectory = await _run(agent, policy=_repeat([odd]))
            assert trajectory.status != "infra_failed", f"the reply {odd[:20]!r} broke it: {trajectory.status_reason}"
            assert len(trajectory.chunks) <= _TURNS, f"the reply {odd[:20]!r} went past the turn limit"

    @asynchronous
    async def test_every_turn_is_recorded_as_a_call_or_as_an_error(self, agent: Agent) -> None:
        """Training masks turns by it; only the last one may be neither."""
        for odd in _ODD:
            trajectory = await _run(agent, policy=_repeat([odd]))
            idle = [chunk.text for chunk in trajectory.chunks[:-1] if not chunk.tool_calls and not chunk.errored]
            assert not idle, f"the turn {idle[0]!r} made no call and was not rejected: use tools.reject"

    @asynchronous
    async def test_a_full_context_ends_the_episode_and_counts(self, agent: Agent) -> None:
        """`ContextOverflowError` is an outcome of the policy, not a failure of infrastructure."""
        trajectory = await _run(agent, policy=_repeat(["x" * 200]), context=260)
        assert trajectory.status != "infra_failed", f"an overflow broke it: {trajectory.status_reason}"

    @asynchronous
    async def test_one_instance_runs_many_episodes_at_once(self, agent: Agent) -> None:
        """It keeps no state."""
        _demonstrator(agent)
        runner = _runner(agent, None, context=4096)
        requests = [_request(f"episode-{index}", expert=True) for index in range(8)]
        together = await asyncio.gather(*(runner(request) for request in requests))
        alone = [await runner(request) for request in requests]
        for one, other in zip(together, alone, strict=True):
            assert (one.segments, one.chunks) == (other.segments, other.chunks), "episodes mixed each other up"


def _demonstrator(agent: Agent) -> Demonstrator:
    if not isinstance(agent, Demonstrator):
        pytest.skip("the agent has no write_action")
    return agent


def _repeat(replies: list[str]) -> Policy:
    """Return a policy that gives the replies in order and then the last one for ever."""
    left = list(replies)
    return lambda _prompt: left.pop(0) if len(left) > 1 else left[0]


def _request(name: str, *, expert: bool) -> RolloutRequest:
    return RolloutRequest(
        id=name,
        task=sample_task(len(name)),
        seed=1,
        env_seed=4,
        group="group",
        sampling=Sampling(max_tokens=200),
        env="two-step",
        source="expert" if expert else "policy",
    )


def _runner(agent: Agent, policy: Policy | None, *, context: int) -> LocalEpisodeRunner:
    tokenizer = CharacterTokenizer(context)
    settings = TwoStepSettings()
    parts = EpisodeParts(
        environments={
            "two-step": NamedEnvironment(build=lambda: TwoStepEnvironment(settings), component=_COMPONENT),
        },
        agent=agent,
        agent_component=_COMPONENT,
        strategies=(),
        strategy_components=(),
        tokenizer=tokenizer,
        inference=None if policy is None else ScriptedInference(policy, tokenizer),
        sandboxes=None,
        limits=Limits(turns=_TURNS, seconds=60.0, malformed=_TURNS - 1),
    )
    return LocalEpisodeRunner(parts)


async def _run(agent: Agent, *, policy: Policy | None = None, expert: bool = False, context: int = 8192) -> Trajectory:
    """Run one episode; the runner verifies its record."""
    return await _runner(agent, policy, context=context)(_request("episode", expert=expert))
