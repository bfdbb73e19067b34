"""Anchors that are prepared once and forked: equal to replayed ones, shared, bounded, and never left behind."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tumbler.contracts.agent import Limits, Outcome
from tumbler.contracts.environment import Environment, StepResult, Task
from tumbler.contracts.execution import RolloutRequest
from tumbler.contracts.inference import Sampling
from tumbler.contracts.sandbox import Sandbox
from tumbler.contracts.sandbox_control import TEMPLATE_LIFETIME, Template
from tumbler.contracts.values import JSON, Message, ToolCall
from tumbler.errors import CapabilityError, SandboxDied
from tumbler.rollout.runner import EpisodeParts, LocalEpisodeRunner, NamedEnvironment
from tumbler.testing.fakes import CharacterTokenizer, ScriptedInference, TwoStepEnvironment, TwoStepSettings
from tumbler.trajectory import Anchor, Component, Trajectory
from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings
from tumbler_envs.trail.environment import TrailEnvironment
from tumbler_envs.trail.generation import generate_tasks
from tumbler_envs.trail.settings import TrailSettings

PartsMaker = Callable[..., EpisodeParts]
RequestMaker = Callable[..., RolloutRequest]
TRAIL = TrailSettings(steps=3, branching=2, distractors=2)


def without_times(trajectory: Trajectory) -> Trajectory:
    """Return the trajectory without what may differ between forks and replays."""
    details = {key: value for key, value in trajectory.details.items() if key != "anchor_restored_by"}
    return replace(trajectory, seconds={}, details=details)


def restored_by(*trajectories: Trajectory) -> list[JSON]:
    return [each.details["anchor_restored_by"] for each in trajectories]


def counting() -> tuple[Callable[[], Environment], Counter[str]]:
    """Return how to build environments, and how often each of their methods was called."""
    calls: Counter[str] = Counter()

    class Counted(TwoStepEnvironment):
        async def step(self, call: ToolCall) -> StepResult:
            calls[call.name] += 1
            await asyncio.sleep(0)
            return await super().step(call)

        async def resume(self, task: Task, *, seed: int, sandbox: Sandbox | None, state: JSON) -> None:
            calls["resume"] += 1
            await super().resume(task, seed=seed, sandbox=sandbox, state=state)

    return lambda: Counted(TwoStepSettings()), calls


async def expert(make_parts: PartsMaker, make_request: RequestMaker) -> Trajectory:
    return await LocalEpisodeRunner(make_parts())(make_request("expert", source="expert"))


async def test_a_fork_gives_the_trajectory_that_a_replay_gives(
    make_parts: PartsMaker, make_request: RequestMaker
) -> None:
    anchor = Anchor(expert=await expert(make_parts, make_request), chunk=1)
    runner = LocalEpisodeRunner(make_parts())
    replayed, forked = [await runner(make_request(anchor=anchor, fork=fork)) for fork in (False, True)]
    assert restored_by(replayed, forked) == ["replay", "fork"]
    assert without_times(forked) == without_times(replayed)
    assert forked.success
    assert [chunk.replayed for chunk in forked.chunks] == [True, False]


async def test_a_group_waits_for_one_preparation_and_touches_the_environment_after_the_anchor_only(
    make_parts: PartsMaker, make_request: RequestMaker
) -> None:
    anchor = Anchor(expert=await expert(make_parts, make_request), chunk=1)
    build, calls = counting()
    runner = LocalEpisodeRunner(make_parts(environment=build))
    requests = [make_request(f"r-{index}", anchor=anchor, fork=True, seed=index) for index in range(8)]
    trajectories = await asyncio.gather(*map(runner, requests))
    assert all(each.success for each in trajectories)
    assert calls == {"look": 1, "say": 8, "resume": 8}
    await runner(make_request("later", anchor=anchor, fork=True))
    assert calls["look"] == 1


async def test_another_environment_seed_or_chunk_is_another_anchor(
    make_parts: PartsMaker, make_request: RequestMaker
) -> None:
    recorded = await expert(make_parts, make_request)
    other = replace(recorded, header=replace(recorded.header, id="another-expert"))
    build, calls = counting()
    runner = LocalEpisodeRunner(make_parts(environment=build))
    for known in (recorded, other):
        await runner(make_request(anchor=Anchor(expert=known, chunk=1), fork=True))
    mismatched = await runner(make_request(anchor=Anchor(expert=recorded, chunk=1), fork=True, env_seed=99))
    assert calls["look"] == 4, "what is not reached without the scaffold is replayed with it"
    assert mismatched.status == "infra_failed"
    assert "ReplayMismatchError" in mismatched.status_reason


async def test_an_anchor_at_the_beginning_prepares_nothing(make_parts: PartsMaker, make_request: RequestMaker) -> None:
    anchor = Anchor(expert=await expert(make_parts, make_request), chunk=0)
    build, calls = counting()
    trajectory = await LocalEpisodeRunner(make_parts(environment=build))(make_request(anchor=anchor, fork=True))
    assert restored_by(trajectory) == ["replay"]
    assert calls == {"look": 1, "say": 1}


class Plain:
    """`TwoStepEnvironment` without the optional part."""

    def __init__(self) -> None:
        self._inner = TwoStepEnvironment(TwoStepSettings())
        for name in ("tasks", "tools", "sandbox_spec", "reset", "step", "verify", "close"):
            setattr(self, name, getattr(self._inner, name))

    @property
    def capabilities(self) -> object:
        return self._inner.capabilities


class Uncopyable(TwoStepEnvironment):
    async def state(self) -> JSON:
        raise CapabilityError("a process is running")


@pytest.mark.parametrize(
    ("build", "reason"),
    [(Plain, "has no state, resume"), (lambda: Uncopyable(TwoStepSettings()), "a process is running")],
)
async def test_what_cannot_be_forked_is_replayed_and_the_log_says_so_once(
    make_parts: PartsMaker,
    make_request: RequestMaker,
    caplog: pytest.LogCaptureFixture,
    build: Callable[[], Environment],
    reason: str,
) -> None:
    recorded = await expert(make_parts, make_request)
    runner = LocalEpisodeRunner(make_parts(environment=build))
    with caplog.at_level(logging.WARNING, logger="tumbler.rollout"):
        for name in ("a", "b"):
            known = replace(recorded, header=replace(recorded.header, id=f"expert-{name}"))
            trajectory = await runner(make_request(name, anchor=Anchor(expert=known, chunk=1), fork=True))
            assert (trajectory.success, restored_by(trajectory)) == (True, ["replay"])
    (message,) = [each.getMessage() for each in caplog.records]
    assert reason in message


class Forgetful(TwoStepEnvironment):
    async def resume(self, task: Task, *, seed: int, sandbox: Sandbox | None, state: JSON) -> None:
        await super().resume(task, seed=seed + 1, sandbox=sandbox, state=state)


class Unwilling(TwoStepEnvironment):
    async def resume(self, task: Task, *, seed: int, sandbox: Sandbox | None, state: JSON) -> None:
        raise CapabilityError("it cannot be restored")


@pytest.mark.parametrize(("kind", "reason"), [(Forgetful, "ReplayMismatchError: the fork"), (Unwilling, "restored")])
async def test_a_fork_that_goes_wrong_fails_and_the_next_attempt_replays(
    make_parts: PartsMaker, make_request: RequestMaker, kind: type[TwoStepEnvironment], reason: str
) -> None:
    anchor = Anchor(expert=await expert(make_parts, make_request), chunk=1)
    runner = LocalEpisodeRunner(make_parts(environment=lambda: kind(TwoStepSettings())))
    first, second = [await runner(make_request(f"r~{attempt}", anchor=anchor, fork=True)) for attempt in range(2)]
    assert first.status == "infra_failed"
    assert reason in first.status_reason
    assert (second.success, restored_by(second)) == (True, ["replay"])


async def test_a_failed_preparation_fails_all_who_wait_and_the_next_one_tries_again(
    make_parts: PartsMaker, make_request: RequestMaker
) -> None:
    failures = [SandboxDied("out of memory")]

    class Frail(TwoStepEnvironment):
        async def step(self, call: ToolCall) -> StepResult:
            await asyncio.sleep(0)
            if failures:
                raise failures.pop()
            return await super().step(call)

    anchor = Anchor(expert=await expert(make_parts, make_request), chunk=1)
    runner = LocalEpisodeRunner(make_parts(environment=lambda: Frail(TwoStepSettings())))
    waiting = [runner(make_request(f"r-{index}", anchor=anchor, fork=True)) for index in range(3)]
    assert [each.status for each in await asyncio.gather(*waiting)] == ["infra_failed"] * 3
    again = await runner(make_request(anchor=anchor, fork=True))
    assert (again.success, restored_by(again)) == (True, ["fork"])


async def test_whoever_tries_again_at_once_does_not_meet_the_old_failure(
    make_parts: PartsMaker, make_request: RequestMaker
) -> None:
    failures = [SandboxDied("out of memory")]

    class Frail(TwoStepEnvironment):
        async def step(self, call: ToolCall) -> StepResult:
            if failures:
                raise failures.pop()
            return await super().step(call)

    anchor = Anchor(expert=await expert(make_parts, make_request), chunk=1)
    runner = LocalEpisodeRunner(make_parts(environment=lambda: Frail(TwoStepSettings())))

    async def insist(name: str) -> int:
        for attempt in range(5):
            if (await runner(make_request(f"{name}~{attempt}", anchor=anchor, fork=True))).success:
                return attempt
        raise AssertionError

    assert await asyncio.gather(*map(insist, "abc")) == [1, 1, 1]


async def test_a_preparation_that_hangs_ends_at_the_limit(make_parts: PartsMaker, make_request: RequestMaker) -> None:
    ended = []

    class Hanging(TwoStepEnvironment):
        async def step(self, call: ToolCall) -> StepResult:
            try:
                return await asyncio.Future()
            finally:
                ended.append(call.name)

    anchor = Anchor(expert=await expert(make_parts, make_request), chunk=1)
    parts = make_parts(environment=lambda: Hanging(TwoStepSettings()), limits=Limits(seconds=0.05))
    runner = LocalEpisodeRunner(parts)
    trajectory = await runner(make_request(anchor=anchor, fork=True))
    await runner.close()
    assert trajectory.status == "infra_failed"
    assert "limits.seconds" in trajectory.status_reason
    assert ended == ["look"]


class TwoCallAgent:
    """Makes all of a chunk's calls: `look` and then what the reply names, in one turn."""

    second = "look"

    def write_action(self, action: object) -> str:
        return "act"

    async def run(self, episode: object) -> Outcome:
        for _ in range(2):
            reply = await episode.model.generate([Message(role="user", content="go")], agent_id=f"a{_}")
            for name in ("look", self.second):
                await episode.tools.call(ToolCall(name=name), chunk=reply.chunk)
        return Outcome(reason="finished")


@pytest.mark.parametrize("fork", [False, True])
async def test_a_chunk_of_several_calls_is_compared_as_a_whole(
    make_parts: PartsMaker, make_request: RequestMaker, fork: bool
) -> None:
    runner = LocalEpisodeRunner(make_parts(agent=TwoCallAgent()))
    recorded = await runner(make_request("first"))
    assert recorded.chunks[0].observation.count("word: ") == 2
    trajectory = await runner(make_request(anchor=Anchor(expert=recorded, chunk=1), fork=fork))
    assert trajectory.status == "completed", trajectory.status_reason
    assert [len(chunk.tool_calls) for chunk in trajectory.chunks] == [2, 2]


async def test_a_scaffold_that_calls_otherwise_than_recorded_is_a_mismatch(
    make_parts: PartsMaker, make_request: RequestMaker
) -> None:
    recorded = await LocalEpisodeRunner(make_parts(agent=TwoCallAgent()))(make_request("first"))

    class OtherAgent(TwoCallAgent):
        second = "say"

    runner = LocalEpisodeRunner(make_parts(agent=OtherAgent()))
    trajectory = await runner(make_request(anchor=Anchor(expert=recorded, chunk=1), fork=True))
    assert trajectory.status == "infra_failed"
    assert "the scaffold is not deterministic" in trajectory.status_reason


# In sandboxes


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[BubblewrapBackend]:
    settings = BubblewrapSettings(root=tmp_path / "sandboxes", cache=tmp_path / "cache", grace=0.2)
    backend = BubblewrapBackend(settings)
    await backend.start()
    yield backend
    assert (backend.measure().sandboxes, list(await backend.templates())) == (0, [])
    await backend.close()


TrailParts = Callable[..., EpisodeParts]


@pytest.fixture
def trail_parts(make_parts: PartsMaker, backend: BubblewrapBackend) -> TrailParts:
    def make(build: Callable[[], Environment] = lambda: TrailEnvironment(TRAIL), **changes: object) -> EpisodeParts:
        component = Component(id="trail", version="0", settings_hash="0")
        environments = {"trail": NamedEnvironment(build=build, component=component)}
        return make_parts(lambda _: "$ ls", environments=environments, sandboxes=backend, **changes)

    return make


def trail_request(make_request: RequestMaker, name: str = "r", **changes: object) -> RolloutRequest:
    (task,) = generate_tasks(TRAIL, "train", count=1, seed=0)
    return make_request(name, task=task, env="trail", sampling=Sampling(max_tokens=64), **changes)


async def trail_expert(trail_parts: TrailParts, make_request: RequestMaker) -> Trajectory:
    recorded = await LocalEpisodeRunner(trail_parts())(trail_request(make_request, "expert", source="expert"))
    assert recorded.success
    return recorded


async def test_forked_sandboxes_give_what_replayed_ones_give_and_nothing_stays(
    trail_parts: TrailParts, make_request: RequestMaker, backend: BubblewrapBackend
) -> None:
    recorded = await trail_expert(trail_parts, make_request)
    tokenizer, (segment,) = CharacterTokenizer(), recorded.segments
    replies = {tokenizer.decode(segment.token_ids[: chunk.start]): chunk.text for chunk in recorded.chunks}
    inference = ScriptedInference(replies.__getitem__, tokenizer)
    runner = LocalEpisodeRunner(trail_parts(inference=inference, limits=Limits(turns=12)))
    for chunk in range(1, len(recorded.chunks)):
        anchor = Anchor(expert=recorded, chunk=chunk)
        replayed, *forked = [
            await runner(trail_request(make_request, anchor=anchor, fork=fork)) for fork in (False, True, True)
        ]
        assert restored_by(replayed, *forked) == ["replay", "fork", "fork"]
        assert [without_times(each) for each in forked] == [without_times(replayed)] * 2
        assert replayed.success
        assert replayed.header.isolation == forked[0].header.isolation == "namespace"
    assert backend.measure().sandboxes == 0
    assert len(await backend.templates()) == len(recorded.chunks) - 1
    await runner.close()


async def test_a_fork_keeps_what_became_of_the_files_that_were_laid_out(
    trail_parts: TrailParts, make_request: RequestMaker
) -> None:
    replies = iter(["$ echo 5 > start", "$ cat start", "done", "$ cat start", "done"])
    runner = LocalEpisodeRunner(trail_parts(inference=ScriptedInference(lambda _: next(replies))))
    recorded = await runner(trail_request(make_request, "first"))
    trajectory = await runner(trail_request(make_request, anchor=Anchor(expert=recorded, chunk=1), fork=True))
    assert restored_by(trajectory) == ["fork"]
    assert [chunk.observation for chunk in trajectory.chunks] == ["(no output)", "5", ""]
    await runner.close()


async def kept_templates(backend: BubblewrapBackend, limit: int) -> set[str]:
    """Wait until no more than `limit` templates are there, and return their ids."""
    while len(found := await backend.templates()) > limit:
        await asyncio.sleep(0.01)
    return {template.id for template in found}


async def test_the_anchors_used_last_are_kept_and_no_more(
    trail_parts: TrailParts, make_request: RequestMaker, backend: BubblewrapBackend
) -> None:
    recorded = await trail_expert(trail_parts, make_request)
    runner = LocalEpisodeRunner(trail_parts(prepared_anchors=2, limits=Limits(turns=4)))

    async def roll(chunk: int) -> set[str]:
        await runner(trail_request(make_request, anchor=Anchor(expert=recorded, chunk=chunk), fork=True))
        return await kept_templates(backend, 2)

    first = await roll(1)
    second = await roll(2) - first
    assert await roll(1) == first | second
    third = await roll(3) - first
    assert await roll(1) == first | third
    assert len(await roll(2) - first) == 1
    await runner.close()


async def test_many_anchors_at_once_leave_no_more_than_the_limit(
    trail_parts: TrailParts, make_request: RequestMaker, backend: BubblewrapBackend
) -> None:
    recorded = await trail_expert(trail_parts, make_request)
    runner = LocalEpisodeRunner(trail_parts(prepared_anchors=1, limits=Limits(turns=4)))
    requests = [
        trail_request(make_request, f"r-{chunk}-{member}", anchor=Anchor(expert=recorded, chunk=chunk), fork=True)
        for chunk in (1, 2, 3)
        for member in range(2)
    ]
    trajectories = await asyncio.gather(*map(runner, requests))
    assert restored_by(*trajectories) == ["fork"] * 6
    assert len(await kept_templates(backend, 1)) == 1
    await runner.close()


async def test_a_snapshot_that_somebody_deleted_is_not_asked_for_again(
    trail_parts: TrailParts, make_request: RequestMaker, backend: BubblewrapBackend
) -> None:
    recorded = await trail_expert(trail_parts, make_request)
    runner = LocalEpisodeRunner(trail_parts(limits=Limits(turns=4)))
    request = trail_request(make_request, anchor=Anchor(expert=recorded, chunk=2), fork=True)
    await runner(request)
    (template,) = await backend.templates()
    await backend.delete_template(template.id)
    failed, again = [await runner(request) for _ in range(2)]
    assert (failed.status, again.status) == ("infra_failed", "truncated")
    assert restored_by(again) == ["replay"]
    await runner.close()


class Announcing(TrailEnvironment):
    """Says when it has begun, and waits where it is told to."""

    def __init__(self, begun: asyncio.Event, place: str) -> None:
        super().__init__(TRAIL)
        self._begun, self._place = begun, place

    async def _pause(self, place: str) -> None:
        if place == self._place:
            self._begun.set()
            await asyncio.sleep(3600)

    async def step(self, call: ToolCall) -> StepResult:
        await self._pause("step")
        return await super().step(call)

    async def fingerprint(self) -> str:
        await self._pause("fingerprint")
        return await super().fingerprint()

    async def resume(self, task: Task, *, seed: int, sandbox: Sandbox | None, state: JSON) -> None:
        await self._pause("resume")
        await super().resume(task, seed=seed, sandbox=sandbox, state=state)


@pytest.mark.parametrize("place", ["step", "fingerprint", "resume"])
async def test_cancelled_rollouts_leave_no_sandbox_and_no_preparation_behind(
    trail_parts: TrailParts, make_request: RequestMaker, backend: BubblewrapBackend, place: str
) -> None:
    recorded = await trail_expert(trail_parts, make_request)
    begun = asyncio.Event()
    runner = LocalEpisodeRunner(trail_parts(lambda: Announcing(begun, place)))
    anchor = Anchor(expert=recorded, chunk=2)
    running = [
        asyncio.ensure_future(runner(trail_request(make_request, f"r-{index}", anchor=anchor, fork=True)))
        for index in range(2)
    ]
    await begun.wait()
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    assert all(task.cancelled() for task in running)
    await runner.close()
    assert backend.measure().sandboxes == 0


async def test_a_snapshot_that_is_taken_when_all_is_cancelled_does_not_stay(
    trail_parts: TrailParts, make_request: RequestMaker, backend: BubblewrapBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = await trail_expert(trail_parts, make_request)
    begun, taken = asyncio.Event(), []
    snapshot = backend.snapshot

    async def slow_snapshot(identity: str) -> Template:
        begun.set()
        await asyncio.sleep(0.05)
        taken.append(await snapshot(identity))
        return taken[-1]

    monkeypatch.setattr(backend, "snapshot", slow_snapshot)
    request = trail_request(make_request, anchor=Anchor(expert=recorded, chunk=2), fork=True)
    runner = LocalEpisodeRunner(trail_parts())
    running = asyncio.ensure_future(runner(request))
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await runner.close()
    assert len(taken) == 1
    assert list(await backend.templates()) == []


async def test_a_snapshot_that_hangs_is_given_up(
    trail_parts: TrailParts,
    make_request: RequestMaker,
    backend: BubblewrapBackend,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorded = await trail_expert(trail_parts, make_request)
    begun, ended = asyncio.Event(), []

    async def hang(identity: str) -> Template:
        begun.set()
        try:
            return await asyncio.Future()
        finally:
            ended.append(identity)

    monkeypatch.setattr(backend, "snapshot", hang)
    monkeypatch.setattr("tumbler.rollout.sandboxes._CLEAN_UP_SECONDS", 2)
    runner = LocalEpisodeRunner(trail_parts())
    request = trail_request(make_request, anchor=Anchor(expert=recorded, chunk=2), fork=True)
    running = asyncio.ensure_future(runner(request))
    await begun.wait()
    running.cancel()
    # As a preparation is ended at its time limit, too.
    await asyncio.gather(running, return_exceptions=True)
    assert ended == [], "it may end by itself for a while"
    async with asyncio.timeout(30):
        while not ended:
            await asyncio.sleep(0.01)
        await runner.close()
    assert f"the snapshot of sandbox {ended[0]} did not end within 2 s" in caplog.text
    assert backend.measure().sandboxes == 0


class Deletions:
    """A backend whose templates go slowly, or not at all."""

    def __init__(self, backend: BubblewrapBackend, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun: list[str] = []
        self.go = asyncio.Event()
        self.errors: list[Exception] = []
        self._delete = backend.delete_template
        monkeypatch.setattr(backend, "delete_template", self._slowly)

    async def _slowly(self, identity: str) -> None:
        self.begun.append(identity)
        await self.go.wait()
        await self._delete(identity)
        if self.errors:
            raise self.errors.pop()


async def test_no_rollout_waits_for_the_removal_of_anchors_and_closing_does(
    trail_parts: TrailParts, make_request: RequestMaker, backend: BubblewrapBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = await trail_expert(trail_parts, make_request)
    deletions = Deletions(backend, monkeypatch)
    runner = LocalEpisodeRunner(trail_parts(prepared_anchors=0, limits=Limits(turns=4)))
    trajectory = await asyncio.wait_for(
        runner(trail_request(make_request, anchor=Anchor(expert=recorded, chunk=1), fork=True)), timeout=30
    )
    assert restored_by(trajectory) == ["fork"]
    assert len(await backend.templates()) == 1, "its removal is held up"
    closing = asyncio.ensure_future(runner.close())
    await asyncio.sleep(0.01)
    assert not closing.done()
    deletions.go.set()
    await closing
    assert len(deletions.begun) == 1


async def test_one_snapshot_that_cannot_be_deleted_does_not_keep_the_others(
    trail_parts: TrailParts,
    make_request: RequestMaker,
    backend: BubblewrapBackend,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorded = await trail_expert(trail_parts, make_request)
    deletions = Deletions(backend, monkeypatch)
    deletions.errors.append(RuntimeError("a bug of the backend"))
    deletions.go.set()
    runner = LocalEpisodeRunner(trail_parts(limits=Limits(turns=4)))
    for chunk in (1, 2, 3):
        await runner(trail_request(make_request, anchor=Anchor(expert=recorded, chunk=chunk), fork=True))
    with caplog.at_level(logging.WARNING, logger="tumbler.rollout"):
        await runner.close()
    assert len(deletions.begun) == 3
    assert "the snapshot of a prepared anchor was not deleted: RuntimeError: a bug of the backend" in caplog.text


async def test_snapshots_of_anchors_are_their_owners_own(
    trail_parts: TrailParts, make_request: RequestMaker, backend: BubblewrapBackend
) -> None:
    recorded = await trail_expert(trail_parts, make_request)
    runner = LocalEpisodeRunner(trail_parts(limits=Limits(turns=4)))
    await runner(trail_request(make_request, anchor=Anchor(expert=recorded, chunk=2), fork=True))
    (template,) = await backend.templates()
    assert template.labels[TEMPLATE_LIFETIME] == "owner"
    await runner.close()


async def test_one_cancelled_rollout_does_not_take_the_preparation_from_the_others(
    trail_parts: TrailParts, make_request: RequestMaker
) -> None:
    recorded = await trail_expert(trail_parts, make_request)
    runner = LocalEpisodeRunner(trail_parts(limits=Limits(turns=4)))
    anchor = Anchor(expert=recorded, chunk=2)
    first, second = (
        asyncio.ensure_future(runner(trail_request(make_request, name, anchor=anchor, fork=True))) for name in "ab"
    )
    await asyncio.sleep(0)
    first.cancel()
    trajectory = await second
    assert first.cancelled()
    assert (trajectory.status, restored_by(trajectory)) == ("truncated", ["fork"])
    await runner.close()


async def test_closing_ends_a_preparation_under_way(
    trail_parts: TrailParts, make_request: RequestMaker, backend: BubblewrapBackend
) -> None:
    recorded = await trail_expert(trail_parts, make_request)
    begun = asyncio.Event()
    runner = LocalEpisodeRunner(trail_parts(lambda: Announcing(begun, "step")))
    anchor = Anchor(expert=recorded, chunk=2)
    running = asyncio.ensure_future(runner(trail_request(make_request, anchor=anchor, fork=True)))
    await begun.wait()
    await runner.close()
    assert backend.measure().sandboxes <= 1
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_backend_without_snapshots_replays(trail_parts: TrailParts, make_request: RequestMaker) -> None:
    recorded = await trail_expert(trail_parts, make_request)
    parts = trail_parts(limits=Limits(turns=4))

    class Limited:
        capabilities = replace(parts.sandboxes.capabilities, snapshots=False)
        create = staticmethod(parts.sandboxes.create)

    runner = LocalEpisodeRunner(replace(parts, sandboxes=Limited()))
    trajectory = await runner(trail_request(make_request, anchor=Anchor(expert=recorded, chunk=2), fork=True))
    assert restored_by(trajectory) == ["replay"]


# The teacher


async def test_a_teachers_words_are_nobodys_samples(make_parts: PartsMaker, make_request: RequestMaker) -> None:
    parts = make_parts()
    teacher = parts.inference
    assert isinstance(teacher, ScriptedInference)
    trajectory = await LocalEpisodeRunner(replace(parts, inference=None, teacher=teacher))(
        make_request("t", source="teacher")
    )
    assert (trajectory.success, trajectory.header.source) == (True, "teacher")
    assert not any(chunk.sampled or chunk.trainable for chunk in trajectory.chunks)
    assert teacher.released == ["t/0"]


async def test_a_teacher_that_is_not_there_is_asked_for(make_parts: PartsMaker, make_request: RequestMaker) -> None:
    trajectory = await LocalEpisodeRunner(make_parts())(make_request(source="teacher"))
    assert "needs the teacher" in trajectory.status_reason
