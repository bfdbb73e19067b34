"""Brings an environment to an anchor once and keeps what forks of it need; knows no policy and no scaffold."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TypeAlias

from tumbler.contracts.environment import Environment, Observation, ResumableEnvironment, StepResult
from tumbler.contracts.execution import RolloutRequest
from tumbler.contracts.sandbox import Sandbox, SandboxBackend, SandboxSpec
from tumbler.contracts.sandbox_control import TEMPLATE_LIFETIME, ControlledSandbox, ManagedBackend, Template
from tumbler.contracts.values import JSON, ToolCall
from tumbler.errors import CapabilityError, ReplayMismatchError
from tumbler.rollout.sandboxes import carry_through, open_sandbox
from tumbler.rollout.sources import require_recorded_observation
from tumbler.trajectory.record import Anchor

__all__ = ["PreparedAnchor", "prepare_anchor"]

_ChunkAnswers: TypeAlias = tuple[tuple[ToolCall, StepResult], ...]
"""The calls of one chunk, each with what it brought."""


@dataclass(frozen=True, kw_only=True)
class PreparedAnchor:
    """An environment's state where an anchor lies, from which any number of episodes can go on."""

    observation: Observation
    """What the agent saw first."""
    answers: tuple[_ChunkAnswers, ...]
    """What the replayed chunks called, and what they were answered."""
    state: JSON
    fingerprint: str
    template: str | None
    """The snapshot of the sandbox; None where the environment needs none."""
    kept: AsyncExitStack
    """Holds the snapshot."""

    def fork_spec(self, spec: SandboxSpec) -> SandboxSpec:
        """Return the spec of a sandbox that starts from the snapshot, where `spec` is the one for the task."""
        return replace(spec, template=self.template, image=None, files={}, name=None, idempotency_key=None)

    async def enter(self, environment: Environment, request: RolloutRequest, sandbox: Sandbox | None) -> None:
        """Take the episode up in the copy; raises `ReplayMismatchError` where that does not equal the original."""
        resumable = _resumable(environment, request.env)
        await resumable.resume(request.task, seed=request.env_seed, sandbox=sandbox, state=self.state)
        fingerprint = await resumable.fingerprint()
        if fingerprint != self.fingerprint:
            raise ReplayMismatchError(
                f"the fork of environment {request.env!r} at chunk {len(self.answers)} has the fingerprint "
                f"{fingerprint}, and its origin had {self.fingerprint}; this anchor is replayed from now on"
            )

    def answer(self, call: ToolCall, *, chunk: int, made: int) -> StepResult:
        """Return what the call brought in the original, `made` calls of its chunk coming before it."""
        recorded = self.answers[chunk][made : made + 1]
        if not recorded or recorded[0][0] != call:
            raise ReplayMismatchError(
                f"replayed chunk {chunk} calls {call} as its call {made}, and the expert trajectory has "
                f"{recorded[0][0] if recorded else 'no such call'}; the scaffold is not deterministic"
            )
        return recorded[0][1]

    async def discard(self) -> None:
        """Delete the snapshot."""
        await self.kept.aclose()


async def prepare_anchor(
    request: RolloutRequest,
    anchor: Anchor,
    environment: Environment,
    sandboxes: SandboxBackend | None,
    *,
    labels: Mapping[str, str],
) -> PreparedAnchor:
    """Replay the expert's chunks before the anchor and take the environment's state; close it in any case.

    Raises `CapabilityError` where environment or sandbox cannot be copied, and `ReplayMismatchError` for an
    observation other than the recorded one.
    """
    async with AsyncExitStack() as kept:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(environment.close)
            resumable = _resumable(environment, request.env)
            sandbox = await _sandbox(request, environment, sandboxes, labels, stack)
            observation = await environment.reset(request.task, seed=request.env_seed, sandbox=sandbox)
            _require_own_tools(environment, anchor, request.env)
            answers = [await _replay(environment, anchor, index) for index in range(anchor.chunk)]
            state, fingerprint = await resumable.state(), await resumable.fingerprint()
            template = None
            if sandbox is not None and isinstance(sandboxes, ManagedBackend):
                template = await _snapshot(sandbox, sandboxes, kept)
        return PreparedAnchor(
            observation=observation,
            answers=tuple(answers),
            state=state,
            fingerprint=fingerprint,
            template=template,
            kept=kept.pop_all(),
        )


def _require_own_tools(environment: Environment, anchor: Anchor, name: str) -> None:
    """Raise `CapabilityError` where another than the environment answered a call: only its scaffold can again."""
    offered = {spec.name for spec in environment.tools()}
    for index, chunk in enumerate(anchor.expert.chunks[: anchor.chunk]):
        foreign = next((call.name for call in chunk.tool_calls if call.name not in offered), None)
        if foreign is not None:
            raise CapabilityError(
                f"chunk {index} of expert trajectory {anchor.expert.id!r} calls {foreign!r}, which is no tool of "
                f"environment {name!r}"
            )


def _resumable(environment: Environment, name: str) -> ResumableEnvironment:
    if not isinstance(environment, ResumableEnvironment):
        raise CapabilityError(f"environment {name!r} has no state, resume and fingerprint")
    return environment


async def _sandbox(
    request: RolloutRequest,
    environment: Environment,
    sandboxes: SandboxBackend | None,
    labels: Mapping[str, str],
    stack: AsyncExitStack,
) -> Sandbox | None:
    spec = environment.sandbox_spec(request.task)
    if spec is None:
        return None
    if sandboxes is not None and not (sandboxes.capabilities.snapshots and isinstance(sandboxes, ManagedBackend)):
        raise CapabilityError("the sandbox backend takes no snapshots")
    # A run that is killed deletes nothing: what it has kept goes with the sandboxes that it leaves.
    spec = replace(spec, labels={**spec.labels, **labels, TEMPLATE_LIFETIME: "owner"})
    sandbox = await open_sandbox(sandboxes, spec, environment=request.env, stack=stack)
    # The environment's own session ends before its sandbox does.
    stack.push_async_callback(environment.close)
    return sandbox


async def _replay(environment: Environment, anchor: Anchor, index: int) -> _ChunkAnswers:
    """Carry out the calls of one chunk and compare what they bring with the record."""
    recorded = anchor.expert.chunks[index]
    answers = [(call, await environment.step(call)) for call in recorded.tool_calls]
    seen = "\n".join(result.observation for _, result in answers)
    if recorded.errored and recorded.tool_calls and seen != recorded.observation:
        raise CapabilityError(
            f"chunk {index} of expert trajectory {anchor.expert.id!r} also makes calls that could not be carried out"
        )
    if recorded.tool_calls:
        require_recorded_observation(anchor, index, seen)
    return tuple(answers)


async def _snapshot(sandbox: Sandbox, backend: ManagedBackend, kept: AsyncExitStack) -> str:
    """Return the id of a snapshot that is deleted when `kept` unwinds; a cancelled one leaves nothing.

    One that hangs is given up a little after its caller is.
    """
    if not isinstance(sandbox, ControlledSandbox):
        raise CapabilityError("the sandbox backend takes no snapshots")
    taking = asyncio.ensure_future(sandbox.snapshot())
    try:
        await asyncio.shield(taking)
    finally:
        await _wait_for(taking, f"the snapshot of sandbox {sandbox.id}")
        if taking.done() and not taking.cancelled() and taking.exception() is None:
            kept.push_async_callback(_delete_template, backend, taking.result().id)
    return taking.result().id


async def _wait_for(taking: "asyncio.Future[Template]", what: str) -> None:
    """Wait for a snapshot to end, for so long as clean-up may take, and cancel it then."""

    async def ended() -> None:
        await asyncio.wait([taking])

    try:
        await carry_through(ended(), what)
    finally:
        if not taking.done():
            taking.cancel()


async def _delete_template(backend: ManagedBackend, identity: str) -> None:
    await carry_through(backend.delete_template(identity), f"the removal of snapshot {identity}")
