"""Runs one rollout request from sandbox to verdict and hands back its verified trajectory.

Failures of infrastructure, and errors in a plugin's code, come back as the status `infra_failed` with the
reason; nothing of an episode outlives it. Knows no group, no training and no journal.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial

from tumbler.contracts.agent import AdaptingAgent, Agent, Demonstrator, Limits, Outcome
from tumbler.contracts.environment import Environment, ExpertEnvironment, Observation, Verdict
from tumbler.contracts.execution import RolloutRequest
from tumbler.contracts.gateway import GatewaySession, ModelGateway
from tumbler.contracts.inference import InferenceBackend, TextTokenizer
from tumbler.contracts.sandbox import Sandbox, SandboxBackend
from tumbler.errors import (
    CapabilityError,
    ContractError,
    EpisodeTimeoutError,
    ReplayMismatchError,
    SandboxNotFound,
    TrajectoryError,
    TumblerError,
)
from tumbler.rollout.anchors import PreparedAnchors
from tumbler.rollout.attempt import Attempt, reason_of
from tumbler.rollout.context import NamedStrategy, StrategyPipeline
from tumbler.rollout.context.files import SandboxFiles
from tumbler.rollout.episode import PhaseClock, RecordedEpisode, RecordedModel, RecordedTools, whole_room
from tumbler.rollout.preparation import PreparedAnchor
from tumbler.rollout.recorder import Recorder
from tumbler.rollout.sandboxes import describe_network, open_sandbox
from tumbler.rollout.sources import ExpertSource, PolicySource, ReplaySource, Source, TeacherSource
from tumbler.seeding import derive_seed
from tumbler.trajectory.record import Component, Header, Status, Trajectory
from tumbler.trajectory.verify import verify_trajectory

__all__ = ["EpisodeParts", "LocalEpisodeRunner", "NamedEnvironment"]

_LOG = logging.getLogger("tumbler.rollout")
_NO_FORK = (ReplayMismatchError, CapabilityError, SandboxNotFound)
"""What says that a prepared anchor is of no use: the next attempt replays."""
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
    teacher: InferenceBackend | None = None
    """Serves the model that rollouts of the source `teacher` ask; it reads and writes with the same tokenizer."""
    gateway: ModelGateway | None = None
    """Serves the policy to agents that are programs."""
    prepared_anchors: int = 64
    """Anchors kept to fork from, while nobody does; each may hold a snapshot of a sandbox."""


class LocalEpisodeRunner:
    """Runs episodes in this process, any number at once; calling it runs one."""

    def __init__(self, parts: EpisodeParts) -> None:
        """Keep what the episodes share."""
        self._parts = parts
        self._anchors = PreparedAnchors(
            lambda env: parts.environments[env].build(),
            parts.sandboxes,
            limit=parts.prepared_anchors,
            seconds=parts.limits.seconds,
            labels={"run": parts.run},
        )

    async def close(self) -> None:
        """Delete what was kept between episodes; call it when the last of them is over."""
        await self._anchors.close()

    async def __call__(self, request: RolloutRequest) -> Trajectory:
        """Run one episode and return its trajectory, verified."""
        named = self._parts.environments.get(request.env)
        if named is None:
            known = ", ".join(sorted(self._parts.environments))
            raise ContractError(f"rollout {request.id!r} asks for environment {request.env!r}; the run has: {known}")
        attempt = Attempt(request, named, Recorder(self._parts.tokenizer), PhaseClock())
        bound = asyncio.timeout(self._parts.limits.seconds)
        try:
            async with bound:
                trajectory = await self._episode(attempt)
        # Environments, scaffolds, strategies and backends are third-party code: whatever they raise ends
        # this one episode, counted and with its reason, and never the run.
        except Exception as error:  # noqa: BLE001  # see above
            if isinstance(error, TimeoutError) and bound.expired():
                limit = self._parts.limits.seconds
                error = EpisodeTimeoutError(f"the episode did not end within {limit:g} s; raise limits.seconds")
            if not (isinstance(error, TumblerError) and error.infra):
                _LOG.warning("rollout %s failed", request.id, exc_info=error)
            trajectory = self._failed(attempt, error)
        finally:
            await self._release(attempt)
        return self._verified(attempt, trajectory)

    def _verified(self, attempt: Attempt, trajectory: Trajectory) -> Trajectory:
        """Return the trajectory, or a failed one without a record in place of one that breaks the rules."""
        try:
            verify_trajectory(trajectory)
        except TrajectoryError as error:
            _LOG.warning("rollout %s left a record that cannot be used", attempt.request.id, exc_info=error)
            return replace(self._failed(attempt, error), segments=(), chunks=())
        return trajectory

    async def _episode(self, attempt: Attempt) -> Trajectory:
        async with AsyncExitStack() as stack:
            environment = attempt.environment.build()
            observation, prepared = await self._begin(attempt, environment, stack)
            attempt.first_observation = observation.text
            episode = self._prepare(attempt, environment, observation, prepared)
            outcome = await self._parts.agent.run(episode)
            attempt.recorder.seal()
            with attempt.clock.phase("verify"):
                verdict = await environment.verify()
            return self._judged(attempt, outcome, verdict)

    def _prepare(
        self,
        attempt: Attempt,
        environment: Environment,
        observation: Observation,
        prepared: PreparedAnchor | None,
    ) -> RecordedEpisode:
        """Put together what the scaffold has in hand."""
        request, parts, recorder = attempt.request, self._parts, attempt.recorder
        tools = RecordedTools(environment, recorder, attempt.clock, request.anchor, prepared)
        tools.last_observation = observation.text
        room = request.sampling.max_tokens
        model = RecordedModel(
            self._source(request, environment),
            recorder,
            attempt.clock,
            episode=request.id,
            room=whole_room(parts.tokenizer.context_length - room),
            observation=lambda: tools.last_observation,
        )
        context = StrategyPipeline(
            parts.strategies,
            parts.tokenizer,
            room=room,
            task=request.task,
            seed=request.env_seed,
            clear_at_least=parts.limits.clear_at_least,
            model=partial(model.generate, cause="strategy"),
            files=None if attempt.sandbox is None else SandboxFiles(attempt.sandbox),
            on_refused_call=recorder.withhold,
        )
        attempt.context = context
        tools.offer(context)
        model.attend(context)
        session = GatewaySession(
            name=request.id,
            model=model,
            tokenizer=parts.tokenizer,
            max_tokens=room,
            tools=tools,
            calls=parts.limits.turns,
        )
        return RecordedEpisode(
            task=request.task,
            observation=observation,
            model=model,
            tools=tools,
            context=context,
            limits=parts.limits,
            sandbox=attempt.sandbox,
            gateway=parts.gateway,
            session=session,
        )

    async def _begin(
        self, attempt: Attempt, environment: Environment, stack: AsyncExitStack
    ) -> tuple[Observation, PreparedAnchor | None]:
        """Bring the environment to its beginning, or in a fork to where the policy takes over."""
        request, clock = attempt.request, attempt.clock
        async with AsyncExitStack() as holding:
            prepared = None
            if request.fork:
                with clock.phase("anchor"):
                    prepared = await holding.enter_async_context(self._anchors.hold(request))
            if prepared is None:
                sandbox = await self._sandbox(attempt, environment, None, stack)
                stack.push_async_callback(environment.close)
                with clock.phase("reset"):
                    return await environment.reset(request.task, seed=request.env_seed, sandbox=sandbox), None
            attempt.restored_by = "fork"
            try:
                sandbox = await self._sandbox(attempt, environment, prepared, stack)
                stack.push_async_callback(environment.close)
                with clock.phase("reset"):
                    await prepared.enter(environment, request, sandbox)
            except _NO_FORK as error:
                self._anchors.refuse(request, str(error))
                raise
            return prepared.observation, prepared

    async def _sandbox(
        self, attempt: Attempt, environment: Environment, prepared: PreparedAnchor | None, stack: AsyncExitStack
    ) -> Sandbox | None:
        spec = environment.sandbox_spec(attempt.request.task)
        if spec is None:
            return None
        labels = {**spec.labels, "trajectory": attempt.request.id, "run": self._parts.run}
        spec = replace(spec if prepared is None else prepared.fork_spec(spec), labels=labels)
        with attempt.clock.phase("sandbox"):
            if isinstance(self._parts.agent, AdaptingAgent):
                spec = await self._parts.agent.adapt_sandbox(spec)
            asking = attempt.environment.component.id
            sandbox = await open_sandbox(self._parts.sandboxes, spec, environment=asking, stack=stack)
        attempt.sandbox = sandbox
        attempt.isolation, attempt.network = sandbox.tier, describe_network(spec.network)
        return sandbox

    def _source(self, request: RolloutRequest, environment: Environment) -> Source:
        if request.source == "expert":
            return self._expert(request, environment)
        inference = self._model(request)
        if inference is None:
            raise ContractError(
                f"rollout {request.id!r} needs the {request.source}, and no inference backend serves it"
            )
        seed = derive_seed(request.seed, "policy")
        if request.source == "teacher":
            return TeacherSource(inference, request.sampling, seed)
        policy = PolicySource(inference, request.sampling, seed)
        return policy if request.anchor is None else ReplaySource(request.anchor, policy)

    def _model(self, request: RolloutRequest) -> InferenceBackend | None:
        """Return the backend that serves the model of this rollout; an expert has none."""
        if request.source == "expert":
            return None
        return self._parts.teacher if request.source == "teacher" else self._parts.inference

    def _expert(self, request: RolloutRequest, environment: Environment) -> Source:
        if not isinstance(environment, ExpertEnvironment):
            raise ContractError(f"environment {request.env!r} has no expert, so it cannot give demonstrations")
        if not isinstance(self._parts.agent, Demonstrator):
            raise ContractError(
                f"agent {self._parts.agent_component.id!r} cannot write an expert's actions; it has no write_action"
            )
        expert = environment.expert(request.task, seed=derive_seed(request.seed, "expert"))
        return ExpertSource(expert, self._parts.agent, self._parts.tokenizer)

    def _judged(self, attempt: Attempt, outcome: Outcome, verdict: Verdict) -> Trajectory:
        return Trajectory(
            header=self._header(attempt),
            segments=attempt.recorder.segments,
            chunks=attempt.recorder.chunks,
            reward=verdict.reward,
            success=verdict.success,
            status=_STATUS.get(outcome.reason, "truncated"),
            status_reason=outcome.reason,
            seconds=dict(attempt.clock.seconds),
            details={
                **outcome.details,
                **verdict.details,
                **attempt.details(),
                "malformed_calls": outcome.malformed_calls,
            },
        )

    def _failed(self, attempt: Attempt, error: BaseException) -> Trajectory:
        return Trajectory(
            header=self._header(attempt),
            segments=attempt.recorder.segments,
            chunks=attempt.recorder.chunks,
            status="infra_failed",
            status_reason=reason_of(error),
            seconds=dict(attempt.clock.seconds),
            details=attempt.details(),
        )

    def _header(self, attempt: Attempt) -> Header:
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

    async def _release(self, attempt: Attempt) -> None:
        inference = self._model(attempt.request)
        if inference is None:
            return
        for session in attempt.recorder.sessions:
            try:
                await inference.release(f"{attempt.request.id}/{session}")
            # Inference backends are third-party code: what is forgotten too late costs memory, and no episode.
            except Exception as error:  # noqa: BLE001  # see above
                _LOG.warning("session %s of rollout %s was not released: %s", session, attempt.request.id, error)
