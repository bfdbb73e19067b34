"""The part of the suite of environments about episodes that go on in a copy."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tumbler.contracts.environment import Environment, ExpertEnvironment, ResumableEnvironment, Task
from tumbler.contracts.sandbox import Sandbox, SandboxBackend
from tumbler.contracts.sandbox_control import ControlledSandbox, ManagedBackend
from tumbler.contracts.values import JSON, ToolCall
from tumbler.testing.environment_episodes import Build, Played, episode, play
from tumbler.testing.suite import ContractSuite, asynchronous

__all__ = ["ResumingTests"]

_SEED = 5


class ResumingTests(ContractSuite):
    """An episode is stopped after each of its calls and goes on in another instance; skipped where none can."""

    @asynchronous
    async def test_a_resumed_episode_goes_on_as_the_first_one_does(
        self, make_environment: Build, sandboxes: SandboxBackend
    ) -> None:
        """With the same fingerprint, and the same answers, flags and verdict from there on."""
        _resumable(make_environment())
        whole = await play(make_environment, sandboxes)
        for cut in range(len(whole.calls) + 1):
            async with _stopped(make_environment(), sandboxes, whole.calls[:cut]) as (first, task, sandbox):
                state = json.loads(json.dumps(await first.state(), allow_nan=False))
                fingerprint = await first.fingerprint()
                async with _copied(task, make_environment(), sandbox, sandboxes, state) as second:
                    assert await _resumable(second).fingerprint() == fingerprint, f"the copy differs after {cut} calls"
                    rest = await _go_on(second, whole.calls[cut:])
            assert rest.seen == whole.seen[1 + cut :], f"after {cut} calls, the copy was answered differently"
            assert rest.verdict == whole.verdict, f"after {cut} calls, the copy was judged differently"

    @asynchronous
    async def test_a_state_is_read_without_a_trace(self, make_environment: Build, sandboxes: SandboxBackend) -> None:
        """The episode goes on as if nobody had asked, and both are plain values."""
        _resumable(make_environment())
        whole = await play(make_environment, sandboxes)
        seen = Played()
        async with episode(make_environment(), sandboxes, seed=_SEED) as (environment, _observation, _task):
            for call in whole.calls:
                state = await _resumable(environment).state()
                assert json.loads(json.dumps(state, allow_nan=False)) == state, "the state does not survive JSON"
                assert isinstance(await _resumable(environment).fingerprint(), str)
                seen.note(await environment.step(call))
        assert seen.seen == whole.seen[1:], "asking for state and fingerprint changed the episode"

    @asynchronous
    async def test_equal_episodes_have_equal_fingerprints_and_others_not(
        self, make_environment: Build, sandboxes: SandboxBackend
    ) -> None:
        """An expert's whole work shows, since the verdict depends on it."""
        _resumable(make_environment())
        if not isinstance(make_environment(), ExpertEnvironment):
            pytest.skip("the environment has no expert, so there is no work that surely shows")
        whole = await play(make_environment, sandboxes)
        once, again, untouched = [
            await _fingerprint(make_environment(), sandboxes, calls) for calls in (whole.calls, whole.calls, [])
        ]
        assert once == again, "two episodes of equal calls have different fingerprints"
        assert once != untouched, "a solved task has the fingerprint of one that was never touched"


def _resumable(environment: Environment) -> ResumableEnvironment:
    if not isinstance(environment, ResumableEnvironment):
        pytest.skip("the environment cannot resume")
    return environment


async def _fingerprint(environment: Environment, sandboxes: SandboxBackend, calls: list[ToolCall]) -> str:
    async with _stopped(environment, sandboxes, calls) as (stopped, _task, _sandbox):
        return await stopped.fingerprint()


@asynccontextmanager
async def _stopped(
    environment: Environment, sandboxes: SandboxBackend, calls: list[ToolCall]
) -> AsyncIterator[tuple[ResumableEnvironment, Task, Sandbox | None]]:
    """Begin an episode, make the calls, and lend it as it is then."""
    task = (await environment.tasks("train", count=1, seed=1))[0]
    async with _sandbox(environment, task, sandboxes, template=None) as sandbox:
        await environment.reset(task, seed=_SEED, sandbox=sandbox)
        for call in calls:
            await environment.step(call)
        yield _resumable(environment), task, sandbox


@asynccontextmanager
async def _copied(
    task: Task, environment: Environment, sandbox: Sandbox | None, sandboxes: SandboxBackend, state: JSON
) -> AsyncIterator[Environment]:
    """Resume in a copy of the sandbox, and clean all up."""
    if sandbox is None:
        async with _sandbox(environment, task, sandboxes, template=None):
            await _resumable(environment).resume(task, seed=_SEED, sandbox=None, state=state)
            yield environment
        return
    if not isinstance(sandboxes, ManagedBackend) or not sandboxes.capabilities.snapshots:
        pytest.skip("the sandbox backend takes no snapshots; give another one with the fixture sandboxes")
    assert isinstance(sandbox, ControlledSandbox)
    template = (await sandbox.snapshot()).id
    try:
        async with _sandbox(environment, task, sandboxes, template=template) as copy:
            await _resumable(environment).resume(task, seed=_SEED, sandbox=copy, state=state)
            yield environment
    finally:
        await sandboxes.delete_template(template)


@asynccontextmanager
async def _sandbox(
    environment: Environment, task: Task, sandboxes: SandboxBackend, *, template: str | None
) -> AsyncIterator[Sandbox | None]:
    """Lend the sandbox that the task needs, if any; close the environment and delete it in the end."""
    spec = environment.sandbox_spec(task)
    if spec is None:
        try:
            yield None
        finally:
            await environment.close()
        return
    await sandboxes.start()
    made = spec if template is None else replace(spec, template=template, image=None, files={})
    sandbox = await sandboxes.create(made)
    try:
        yield sandbox
    finally:
        await environment.close()
        await sandbox.delete()


async def _go_on(environment: Environment, calls: list[ToolCall]) -> Played:
    played = Played()
    for call in calls:
        played.note(await environment.step(call))
    played.verdict = await environment.verify()
    return played
