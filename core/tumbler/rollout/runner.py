"""Runs one rollout request from sandbox to verdict and hands back its verified trajectory.

Failures of infrastructure, and errors in a plugin's code, come back as the status `infra_failed` with the
reason; nothing of an episode outlives it. Knows no group, no training and no journal.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from tumbler.contracts.agent import Agent, Demonstrator, Limits, Outcome
from tumbler.contracts.environment import Environment, ExpertEnvironment, Verdict
from tumbler.contracts.execution import RolloutRequest
from tumbler.contracts.inference import InferenceBackend, TextTokenizer
from tumbler.contracts.sandbox import NetworkPolicy, Sandbox, SandboxBackend
from tumbler.contracts.values import JSON
from tumbler.errors import ContractError, EpisodeTimeoutError, TumblerError
from tumbler.rollout.context import NamedStrategy, StrategyPipeline
from tumbler.rollout.episode import PhaseClock, RecordedEpisode, RecordedModel, RecordedTools
from tumbler.rollout.recorder import Recorder
from tumbler.rollout.sources import ExpertSource, PolicySource, ReplaySource, Source
from tumbler.seeding import derive_seed
from tumbler.trajectory.record import Component, Header, Status, Trajectory
from tumbler.trajectory.verify import verify_trajectory

__all__ = ["EpisodeParts", "LocalEpisodeRunner", "NamedEnvironment"]

_LOG = logging.getLogger("tumbler.rollout")
_DELETE_SECONDS = 60.0
_STATUS: Mapping[str, Status] = {"finished": "completed", "terminated": "completed"}


@dataclass(frozen=True, kw_only=True)
class NamedEnvironment:
    """An environment as the registry names it: how to build an instance, and what the header says."""

    build: Callable[[], Environment]
    component: Component


@dataclass(frozen=True, kw_only=True)
class EpisodeParts:
    """All that episodes of one run share."""

    environments: Mapping[str, NamedEnvironment]
    agent: Agent
    agent_component: Component
    strategies: Sequence[NamedStrategy]
    strategy_components: tuple[Component, ...]
    tokenizer: TextTokenizer
    inference: InferenceBackend | None
    """None where only experts act."""
    sandboxes: SandboxBackend | None
    limits: Limits
    run: str = ""
    """The run's name, for the labels of its sandboxes."""


@dataclass
class _Attempt:
    """One episode while it runs."""

    request: RolloutRequest
    environment: NamedEnvironment
    recorder: Recorder
    clock: PhaseClock
    isolation: str | None = None
    network: str | None = None
    first_observation: str = ""

    def details(self) -> dict[str, JSON]:
        """Return what a reader of the trajectory wants to see first."""
        return {"instruction": self.request.task.instruction, "first_observation": self.first_observation}


class LocalEpisodeRunner:
    """Runs episodes in this process, any number at once; calling it runs one."""

    def __init__(self, parts: EpisodeParts) -> None:
        """Keep what the episodes share."""
        self._parts = parts

    async def __call__(self, request: RolloutRequest) -> Trajectory:
        """Run one episode and return its trajectory, verified."""
        named = self._parts.environments.get(request.env)
        if named is None:
            known = ", ".join(sorted(self._parts.environments))
            raise ContractError(f"rollout {request.id!r} asks for environment {request.env!r}; the run has: {known}")
        attempt = _Attempt(request, named, Recorder(self._parts.tokenizer), PhaseClock())
        try:
            async with asyncio.timeout(self._parts.limits.seconds):
                trajectory = await self._episode(attempt)
        except TimeoutError as error:
            limit = self._parts.limits.seconds
            reason = str(error) or f"the episode did not end within {limit:g} s; raise limits.seconds if it needs more"
            trajectory = self._failed(attempt, EpisodeTimeoutError(reason))
        # Environments, scaffolds, strategies and backends are third-party code: whatever they raise ends
        # this one episode, counted and with its reason, and never the run.
        except Exception as error:  # noqa: BLE001  # see above
            if not (isinstance(error, TumblerError) and error.infra):
                _LOG.warning("rollout %s failed", request.id, exc_info=error)
            trajectory = self._failed(attempt, error)
        finally:
            await self._release(attempt)
        verify_trajectory(trajectory)
        return trajectory

    async def _episode(self, attempt: _Attempt) -> Trajectory:
        request = attempt.request
        async with AsyncExitStack() as stack:
            environment = attempt.environment.build()
            sandbox = await self._sandbox(attempt, environment, stack)
            stack.push_async_callback(environment.close)
            with attempt.clock.phase("reset"):
                observation = await environment.reset(request.task, seed=request.env_seed, sandbox=sandbox)
            attempt.first_observation = observation.text
            tools = RecordedTools(environment, attempt.recorder, attempt.clock, request.anchor)
            tools.last_observation = observation.text
            room = request.sampling.max_tokens
            episode = RecordedEpisode(
                task=request.task,
                observation=observation,
                model=RecordedModel(
                    self._source(request, environment),
                    attempt.recorder,
                    tools,
                    attempt.clock,
                    episode=request.id,
                    prompt_limit=self._parts.tokenizer.context_length - room,
                ),
                tools=tools,
                context=StrategyPipeline(
                    self._parts.strategies, self._parts.tokenizer, room=room, task=request.task, seed=request.seed
                ),
                limits=self._parts.limits,
            )
            outcome = await self._parts.agent.run(episode)
            with attempt.clock.phase("verify"):
                verdict = await environment.verify()
            return self._judged(attempt, outcome, verdict)

    async def _sandbox(self, attempt: _Attempt, environment: Environment, stack: AsyncExitStack) -> Sandbox | None:
        spec = environment.sandbox_spec(attempt.request.task)
        if spec is None:
            return None
        if self._parts.sandboxes is None:
            raise ContractError(
                f"environment {attempt.environment.component.id!r} needs a sandbox and the run names no sandbox "
                'backend; add one: backends = { sandbox = "bubblewrap", ... }'
            )
        with attempt.clock.phase("sandbox"):
            labels = {**spec.labels, "trajectory": attempt.request.id, "run": self._parts.run}
            sandbox = await self._parts.sandboxes.create(replace(spec, labels=labels))
        stack.push_async_callback(_shielded_delete, sandbox)
        attempt.isolation, attempt.network = sandbox.tier, _described(spec.network)
        return sandbox

    def _source(self, request: RolloutRequest, environment: Environment) -> Source:
        if request.source == "expert":
            return self._expert(request, environment)
        if self._parts.inference is None:
            raise ContractError(f"rollout {request.id!r} needs the policy and the run has no inference backend")
        policy = PolicySource(self._parts.inference, request.sampling, derive_seed(request.seed, "policy"))
        return policy if request.anchor is None else ReplaySource(request.anchor, policy)

    def _expert(self, request: RolloutRequest, environment: Environment) -> Source:
        if not isinstance(environment, ExpertEnvironment):
            raise ContractError(f"environment {request.env!r} has no expert, so it cannot give demonstrations")
        if not isinstance(self._parts.agent, Demonstrator):
            raise ContractError(
                f"agent {self._parts.agent_component.id!r} cannot write an expert's actions; it has no write_action"
            )
        expert = environment.expert(request.task, seed=derive_seed(request.seed, "expert"))
        return ExpertSource(expert, self._parts.agent, self._parts.tokenizer)

    def _judged(self, attempt: _Attempt, outcome: Outcome, verdict: Verdict) -> Trajectory:
        return Trajectory(
            header=self._header(attempt),
            segments=attempt.recorder.segments,
            chunks=attempt.recorder.chunks,
            reward=verdict.reward,
            success=verdict.success,
            status=_STATUS.get(outcome.reason, "truncated"),
            status_reason=outcome.reason,
            seconds=dict(attempt.clock.seconds),
            details={**verdict.details, **attempt.details(), "malformed_calls": outcome.malformed_calls},
        )

    def _failed(self, attempt: _Attempt, error: BaseException) -> Trajectory:
        return Trajectory(
            header=self._header(attempt),
            segments=attempt.recorder.segments,
            chunks=attempt.recorder.chunks,
            status="infra_failed",
            status_reason=f"{type(error).__name__}: {error}",
            seconds=dict(attempt.clock.seconds),
            details=attempt.details(),
        )

    def _header(self, attempt: _Attempt) -> Header:
        request = attempt.request
        return Header(
            id=request.id,
            task=request.task.id,
            env=attempt.environment.component,
            agent=self._parts.agent_component,
            context=self._parts.strategy_components,
            seed=request.seed,
            group=request.group,
            anchor=None if request.anchor is None else request.anchor.ref,
            source=request.source,
            tokenizer=self._parts.tokenizer.fingerprint,
            temperature=request.sampling.temperature,
            isolation=attempt.isolation,
            network=attempt.network,
            attempt=request.attempt,
        )

    async def _release(self, attempt: _Attempt) -> None:
        if self._parts.inference is None or attempt.request.source == "expert":
            return
        for segment in attempt.recorder.segments:
            await self._parts.inference.release(f"{attempt.request.id}/{segment.id}")


def _described(policy: NetworkPolicy) -> str:
    """Return a network policy in words."""
    return " ".join([policy.mode, *policy.hosts, *policy.cidrs]) if policy.mode == "allowlist" else policy.mode


async def _shielded_delete(sandbox: Sandbox) -> None:
    """Delete the sandbox although the episode is being cancelled; one that hangs is left to its owner's sweep."""
    deletion = asyncio.ensure_future(sandbox.delete())
    try:
        await _bounded(deletion, sandbox)
    except asyncio.CancelledError:
        await _bounded(deletion, sandbox)
        raise


async def _bounded(deletion: "asyncio.Future[None]", sandbox: Sandbox) -> None:
    done, _ = await asyncio.wait([deletion], timeout=_DELETE_SECONDS)
    if not done:
        _LOG.warning("sandbox %s was not deleted within %g s", sandbox.id, _DELETE_SECONDS)
    else:
        deletion.result()
