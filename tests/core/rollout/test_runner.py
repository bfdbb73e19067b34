"""One episode: recorded, judged, replayed from anchors, failed cleanly, and nothing left behind."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from tumbler.contracts.agent import Limits
from tumbler.contracts.context import Budget, Drop, Plan, Replace, State, StrategyCaps, Trigger, View
from tumbler.contracts.environment import StepResult, Task, Verdict
from tumbler.contracts.execution import RolloutRequest
from tumbler.contracts.inference import GenerateRequest, Generation, Sampling
from tumbler.contracts.sandbox import NetworkPolicy, SandboxSpec
from tumbler.contracts.values import ToolCall
from tumbler.errors import SandboxDied
from tumbler.rollout.context import NamedStrategy
from tumbler.rollout.runner import EpisodeParts, LocalEpisodeRunner
from tumbler.testing.fakes import CharacterTokenizer, ScriptedInference, TwoStepEnvironment, TwoStepSettings
from tumbler.testing.memory_sandbox import MemorySandbox, MemorySandboxBackend
from tumbler.trajectory import Anchor, Trajectory

PartsMaker = Callable[..., EpisodeParts]
RequestMaker = Callable[..., RolloutRequest]


async def expert(make_parts: PartsMaker, make_request: RequestMaker) -> Trajectory:
    return await LocalEpisodeRunner(make_parts())(make_request("expert", source="expert"))


async def test_a_policy_episode_is_recorded_token_by_token(make_parts: PartsMaker, make_request: RequestMaker) -> None:
    parts = make_parts()
    trajectory = await LocalEpisodeRunner(parts)(make_request())
    assert (trajectory.status, trajectory.success, trajectory.reward) == ("completed", True, 1.0)
    (segment,) = trajectory.segments
    inference = parts.inference
    assert isinstance(inference, ScriptedInference)
    for request, chunk in zip(inference.requests, trajectory.chunks, strict=True):
        assert segment.token_ids[: chunk.start] == request.token_ids
        assert chunk.trainable
        assert chunk.policy_version == 0
    assert [call.name for chunk in trajectory.chunks for call in chunk.tool_calls] == ["look", "say"]
    assert inference.released == ["r/0"]


async def test_equal_requests_give_equal_trajectories(make_parts: PartsMaker, make_request: RequestMaker) -> None:
    runner = LocalEpisodeRunner(make_parts())
    first, second = await asyncio.gather(runner(make_request()), runner(make_request()))
    assert replace(first, seconds={}) == replace(second, seconds={})


async def test_an_expert_episode_has_no_sampled_token(make_parts: PartsMaker, make_request: RequestMaker) -> None:
    trajectory = await expert(make_parts, make_request)
    assert trajectory.success
    assert not any(chunk.sampled or chunk.trainable for chunk in trajectory.chunks)
    assert trajectory.header.source == "expert"


async def test_an_anchored_episode_replays_the_expert_and_samples_the_rest(
    make_parts: PartsMaker, make_request: RequestMaker
) -> None:
    recorded = await expert(make_parts, make_request)
    parts = make_parts()
    trajectory = await LocalEpisodeRunner(parts)(make_request(anchor=Anchor(expert=recorded, chunk=1)))
    assert [(chunk.replayed, chunk.trainable) for chunk in trajectory.chunks] == [(True, False), (False, True)]
    assert trajectory.segments[0].token_ids == recorded.segments[0].token_ids
    assert trajectory.success
    assert isinstance(parts.inference, ScriptedInference)
    assert len(parts.inference.requests) == 1


async def test_a_replay_that_sees_something_else_is_an_infrastructure_failure(
    make_parts: PartsMaker, make_request: RequestMaker
) -> None:
    recorded = await expert(make_parts, make_request)
    request = make_request(anchor=Anchor(expert=recorded, chunk=1), env_seed=99)
    trajectory = await LocalEpisodeRunner(make_parts())(request)
    assert trajectory.status == "infra_failed"
    assert "ReplayMismatchError" in trajectory.status_reason
    assert trajectory.reward is None


class Breaking(TwoStepEnvironment):
    """Fails in `step` with a chosen error; counts how often it was closed."""

    error: Exception = SandboxDied("the sandbox ran out of memory")
    closed = 0

    async def step(self, call: ToolCall) -> StepResult:
        raise self.error

    async def close(self) -> None:
        type(self).closed += 1


@pytest.mark.parametrize("error", [SandboxDied("gone"), ConnectionError("reset"), KeyError("a bug")])
async def test_whatever_a_plugin_raises_ends_the_episode_without_a_verdict(
    make_parts: PartsMaker, make_request: RequestMaker, error: Exception
) -> None:
    class Environment(Breaking):
        closed = 0

    Environment.error = error
    parts = make_parts(environment=lambda: Environment(TwoStepSettings()))
    trajectory = await LocalEpisodeRunner(parts)(make_request())
    assert trajectory.status == "infra_failed"
    assert type(error).__name__ in trajectory.status_reason
    assert len(trajectory.chunks) == 1
    assert Environment.closed == 1


class Hanging(TwoStepEnvironment):
    """Never answers."""

    cancelled = 0

    async def step(self, call: ToolCall) -> StepResult:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            type(self).cancelled += 1
            raise
        raise AssertionError


async def test_an_episode_that_hangs_ends_at_its_limit(make_parts: PartsMaker, make_request: RequestMaker) -> None:
    parts = make_parts(environment=lambda: Hanging(TwoStepSettings()), limits=Limits(seconds=0.05))
    trajectory = await LocalEpisodeRunner(parts)(make_request())
    assert trajectory.status == "infra_failed"
    assert "limits.seconds" in trajectory.status_reason


async def test_cancelling_an_episode_cancels_what_it_waits_for(
    make_parts: PartsMaker, make_request: RequestMaker
) -> None:
    class Environment(Hanging):
        cancelled = 0

    task = asyncio.ensure_future(
        LocalEpisodeRunner(make_parts(environment=lambda: Environment(TwoStepSettings())))(make_request())
    )
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert Environment.cancelled == 1


@pytest.mark.parametrize(
    ("policy", "written"),
    [
        (NetworkPolicy(), "none"),
        (NetworkPolicy(mode="public"), "public"),
        (
            NetworkPolicy(mode="allowlist", hosts=("pypi.org:443",), cidrs=("192.0.2.0/24",)),
            "allowlist pypi.org:443 192.0.2.0/24",
        ),
    ],
)
async def test_the_header_says_what_the_sandbox_was_and_its_labels_whose(
    make_parts: PartsMaker, make_request: RequestMaker, policy: NetworkPolicy, written: str
) -> None:
    class Environment(TwoStepEnvironment):
        def sandbox_spec(self, task: Task) -> SandboxSpec | None:
            return SandboxSpec(network=policy, labels={"own": "label"})

    class Obliging(MemorySandboxBackend):
        async def create(self, spec: SandboxSpec) -> MemorySandbox:
            made = await super().create(replace(spec, network=NetworkPolicy()))
            made.tier = "process"
            return made

    backend = Obliging()
    parts = make_parts(environment=lambda: Environment(TwoStepSettings()), sandboxes=backend, run="my-run")
    trajectory = await LocalEpisodeRunner(parts)(make_request("r-7"))
    assert (trajectory.header.isolation, trajectory.header.network) == ("process", written)
    assert backend.sandboxes[0].spec.labels == {"own": "label", "trajectory": "r-7", "run": "my-run"}


async def test_a_cancelled_episode_deletes_its_sandbox_first(
    make_parts: PartsMaker, make_request: RequestMaker
) -> None:
    class Environment(Hanging):
        def sandbox_spec(self, task: Task) -> SandboxSpec | None:
            return SandboxSpec()

    class SlowlyDeleted:
        id, tier, deleted = "slow", "process", False

        async def delete(self) -> None:
            await asyncio.sleep(0.05)
            type(self).deleted = True

    class Backend:
        async def create(self, spec: SandboxSpec) -> SlowlyDeleted:
            return SlowlyDeleted()

    parts = make_parts(environment=lambda: Environment(TwoStepSettings()), sandboxes=Backend())
    task = asyncio.ensure_future(LocalEpisodeRunner(parts)(make_request()))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert SlowlyDeleted.deleted


async def test_the_turn_limit_truncates_and_the_verdict_counts(
    make_parts: PartsMaker, make_request: RequestMaker
) -> None:
    parts = make_parts(lambda _: "@look", limits=Limits(turns=3))
    trajectory = await LocalEpisodeRunner(parts)(make_request())
    assert (trajectory.status, trajectory.status_reason) == ("truncated", "turn_limit")
    assert (trajectory.reward, len(trajectory.chunks)) == (0.0, 3)


async def test_a_prompt_that_no_longer_fits_truncates(make_parts: PartsMaker, make_request: RequestMaker) -> None:
    inference = ScriptedInference(lambda _: "@look", CharacterTokenizer(context_length=400))
    trajectory = await LocalEpisodeRunner(make_parts(inference=inference))(make_request())
    assert trajectory.status_reason == "context_overflow"
    assert len(trajectory.chunks) >= 1


async def test_a_reply_cut_by_max_tokens_is_closed_before_the_next_turn(
    make_parts: PartsMaker, make_request: RequestMaker
) -> None:
    parts = make_parts(lambda _: "@look and so on and on", limits=Limits(turns=2))
    trajectory = await LocalEpisodeRunner(parts)(make_request(sampling=Sampling(max_tokens=5)))
    chunk = trajectory.chunks[0]
    assert chunk.finish_reason == "length"
    assert trajectory.segments[0].token_ids[chunk.end] == CharacterTokenizer.end_of_turn


async def test_an_environment_that_needs_a_sandbox_says_so_where_there_is_none(
    make_parts: PartsMaker, make_request: RequestMaker
) -> None:
    class Environment(TwoStepEnvironment):
        def sandbox_spec(self, task: Task) -> SandboxSpec | None:
            return SandboxSpec()

    parts = make_parts(environment=lambda: Environment(TwoStepSettings()))
    trajectory = await LocalEpisodeRunner(parts)(make_request())
    assert "names no sandbox backend" in trajectory.status_reason


class EditingStrategy:
    """Hides or replaces the oldest entry that is not pinned, from the third one on."""

    caps = StrategyCaps(rewrites="every_turn")

    def __init__(self, plan: Callable[[View], Plan]) -> None:
        self._plan = plan

    def start(self, task: Task, rng: Random) -> State:
        return {}

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        return self._plan(view)


def hide_oldest(view: View) -> Plan:
    loose = [entry.id for entry in view.entries if not entry.pinned]
    return Plan(edits=[Drop(ids=tuple(loose[:2]))] if len(loose) > 2 else [])


async def test_an_edit_of_history_opens_a_segment_and_every_chunk_is_kept_once(
    make_parts: PartsMaker, make_request: RequestMaker
) -> None:
    strategies = [NamedStrategy(name="hide", strategy=EditingStrategy(hide_oldest))]
    parts = make_parts(lambda _: "@look", strategies=strategies, limits=Limits(turns=4))
    trajectory = await LocalEpisodeRunner(parts)(make_request())
    assert [segment.cause for segment in trajectory.segments] == ["start", "rewrite", "rewrite"]
    assert [chunk.segment for chunk in trajectory.chunks] == [0, 0, 1, 2]


async def test_a_strategy_that_edits_a_pinned_entry_is_named(
    make_parts: PartsMaker, make_request: RequestMaker
) -> None:
    def spoil(view: View) -> Plan:
        return Plan(edits=[Replace(id=view.entries[0].id, content="x", reason="none")])

    parts = make_parts(strategies=[NamedStrategy(name="spoil", strategy=EditingStrategy(spoil))])
    trajectory = await LocalEpisodeRunner(parts)(make_request())
    assert "'spoil' edits entry 0, which is pinned" in trajectory.status_reason


@pytest.mark.parametrize(
    ("ids", "logprobs", "problem"),
    [
        ((), (), "no token at all"),
        ((5, 3), (-0.1,), "1 log-probabilities for 2 tokens"),
        ((-1, 3), (-0.1, -0.1), "the token id -1"),
        ((5, 3), (-0.1, float("nan")), "the log-probability nan"),
        ((5, 3), (-0.1, 0.5), "the log-probability 0.5"),
    ],
)
async def test_a_reply_that_cannot_be_recorded_is_the_engines_failure(
    make_parts: PartsMaker, make_request: RequestMaker, ids: tuple[int, ...], logprobs: tuple[float, ...], problem: str
) -> None:
    class Broken(ScriptedInference):
        async def generate(self, request: GenerateRequest) -> Generation:
            return Generation(token_ids=ids, logprobs=logprobs, finish_reason="stop", policy_version=0)

    trajectory = await LocalEpisodeRunner(make_parts(inference=Broken(lambda _: "")))(make_request())
    assert trajectory.status == "infra_failed"
    assert f"InferenceError: the inference backend answered with {problem}" in trajectory.status_reason


async def test_a_verdict_that_breaks_the_rules_fails_its_episode_and_never_the_run(
    make_parts: PartsMaker, make_request: RequestMaker
) -> None:
    class Unsure(TwoStepEnvironment):
        async def verify(self) -> Verdict:
            return Verdict(reward=float("nan"), success=False)

    parts = make_parts(environment=lambda: Unsure(TwoStepSettings()))
    trajectory = await LocalEpisodeRunner(parts)(make_request())
    assert (trajectory.status, trajectory.reward, trajectory.chunks) == ("infra_failed", None, ())
    assert "reward nan is not finite" in trajectory.status_reason
