"""The episode that a scaffold has in hand: recorded model, recorded tools, context, limits."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from tumbler.contracts.agent import EpisodeModel, EpisodeTools, Limits, Reply
from tumbler.contracts.context import ContextPipeline
from tumbler.contracts.environment import Environment, Observation, StepResult, Task
from tumbler.contracts.gateway import Endpoint, GatewayCall, GatewaySession, ModelGateway
from tumbler.contracts.sandbox import Sandbox
from tumbler.contracts.values import Message, ToolCall, ToolSpec
from tumbler.errors import ContextOverflowError, ContractError
from tumbler.rollout.context import StrategyPipeline
from tumbler.rollout.preparation import PreparedAnchor
from tumbler.rollout.recorder import Recorder
from tumbler.rollout.sources import Prompt, Source, require_recorded_observation
from tumbler.trajectory.record import Anchor

__all__ = ["PhaseClock", "RecordedEpisode", "RecordedModel", "RecordedTools", "whole_room"]

_OVER: Final = "not carried out: the episode is over"


class PhaseClock:
    """Adds up wall seconds by phase."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time spent inside to the phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start


class RecordedTools:
    """The environment's tools; each call ends a chunk and is recorded."""

    def __init__(
        self,
        environment: Environment,
        recorder: Recorder,
        clock: PhaseClock,
        anchor: Anchor | None,
        prepared: PreparedAnchor | None,
    ) -> None:
        """Pass calls to `environment`; observations of replayed chunks must equal the anchor's.

        With `prepared`, the environment has those calls behind it, and they are answered from the record.
        """
        self._environment = environment
        self._recorder = recorder
        self._clock = clock
        self._anchor = anchor
        self._prepared = prepared
        self._strategies: StrategyPipeline | None = None
        self._turn = asyncio.Lock()
        self._end: StepResult | None = None
        """How the environment has ended the episode."""
        self.last_observation = ""

    def offer(self, strategies: StrategyPipeline) -> None:
        """Offer the context strategies' tools beside the environment's."""
        taken = {spec.name for spec in self._environment.tools()} & {spec.name for spec in strategies.tools}
        if taken:
            raise ContractError(
                f"the environment and a context strategy both offer a tool {min(taken)!r}; "
                "rename the tool in the strategy's settings"
            )
        self._strategies = strategies

    @property
    def specs(self) -> Sequence[ToolSpec]:
        """Return the tools on offer."""
        own = [] if self._strategies is None else self._strategies.tools
        return [*self._environment.tools(), *own]

    async def call(self, call: ToolCall, *, chunk: int) -> StepResult:
        """Carry out a call that the given chunk made.

        Calls that are made side by side are carried out in their order, so that equal episodes have equal records;
        none is once the environment has ended the episode.
        """
        self._check(chunk)
        async with self._turn:
            if self._end is not None:
                return replace(self._end, observation=_OVER, reward=0.0, errored=True)
            with self._clock.phase("tools"):
                result = await self._answer(call, chunk)
            self._end = result if result.terminated or result.truncated else None
            self._recorder.note_call(chunk, call, result)
            self.last_observation = self._recorder.chunks[chunk].observation
            self._compare(chunk)
        return result

    def note(self, call: ToolCall, result: StepResult, *, chunk: int) -> None:
        """Record a call that the scaffold carried out itself."""
        self._check(chunk)
        self._recorder.note_call(chunk, call, result)
        self.last_observation = self._recorder.chunks[chunk].observation
        self._compare(chunk)

    def reject(self, *, chunk: int, reason: str) -> None:
        """Record that the chunk made no call that can be carried out."""
        self._check(chunk)
        self._recorder.note_rejection(chunk, reason)
        self.last_observation = reason
        self._compare(chunk)

    async def _answer(self, call: ToolCall, chunk: int) -> StepResult:
        if self._strategies is not None and any(spec.name == call.name for spec in self._strategies.tools):
            answer = await self._strategies.call(call)
            return StepResult(observation=answer.text, errored=answer.errored)
        if self._prepared is None or not self._replays(chunk):
            return await self._environment.step(call)
        return self._prepared.answer(call, chunk=chunk, made=len(self._recorder.chunks[chunk].tool_calls))

    def _replays(self, chunk: int) -> bool:
        return self._anchor is not None and chunk < self._anchor.chunk

    def _check(self, chunk: int) -> None:
        if not 0 <= chunk < len(self._recorder.chunks):
            raise ContractError(f"the scaffold names chunk {chunk}, but {len(self._recorder.chunks)} were recorded")

    def _compare(self, chunk: int) -> None:
        if self._anchor is None or not self._replays(chunk):
            return
        made, recorded = self._recorder.chunks[chunk], self._anchor.expert.chunks[chunk]
        # The record holds what all calls of a chunk brought, also those that could not be carried out, which are
        # not counted: until the last of them it goes on from what was seen so far.
        going_on = recorded.errored or len(made.tool_calls) < len(recorded.tool_calls)
        if not (going_on and recorded.observation.startswith(f"{made.observation}\n")):
            require_recorded_observation(self._anchor, chunk, made.observation)


class RecordedModel:
    """The policy as whoever asks it calls it; each call becomes one chunk."""

    def __init__(
        self,
        source: Source,
        recorder: Recorder,
        clock: PhaseClock,
        *,
        episode: str,
        room: Callable[[int], int | None],
        observation: Callable[[], str] = lambda: "",
    ) -> None:
        """Ask `source`.

        `room` returns how many tokens a reply to a prompt of that length may have, or None for as many as are sampled,
        and raises `ContextOverflowError` where the prompt is too long. `observation` returns the environment's last
        answer.
        """
        self._source = source
        self._recorder = recorder
        self._clock = clock
        self._episode = episode
        self._room = room
        self._observation = observation
        self._contexts: StrategyPipeline | None = None

    def attend(self, context: StrategyPipeline) -> None:
        """Tell a pipeline and its branches how long their prompts and replies really are."""
        self._contexts = context

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        agent_id: str = "main",
        max_tokens: int | None = None,
        temperature: float | None = None,
        trainable: bool = True,
        cause: str | None = None,
    ) -> Reply:
        """Return the policy's reply to the conversation and record it."""
        context = None if self._contexts is None else self._contexts.of_agent(agent_id)
        if cause is None and context is not None and context.rewritten:
            cause = "rewrite"
        call = self._recorder.open_call(agent_id, messages, cause=cause)
        try:
            length = len(call.token_ids)
            if context is not None:
                context.note_prompt(length)
            bounds = [bound for bound in (self._room(length), max_tokens) if bound is not None]
            prompt = Prompt(
                session=f"{self._episode}/{call.session}",
                call=call.number,
                token_ids=call.token_ids,
                observation=self._observation(),
                max_tokens=min(bounds, default=None),
                temperature=temperature,
                agent_id=agent_id,
            )
            with self._clock.phase("model"):
                spoken = await self._source.speak(prompt)
        except BaseException:
            self._recorder.abandon_call(call)
            raise
        chunk = spoken.chunk if trainable else replace(spoken.chunk, trainable=False)
        index = self._recorder.close_call(call, spoken.token_ids, chunk)
        if context is not None:
            context.note_reply(chunk.text, tuple(spoken.token_ids))
        return Reply(
            text=chunk.text,
            finish_reason=chunk.finish_reason,
            chunk=index,
            prompt_tokens=len(call.token_ids),
            tokens=len(spoken.token_ids),
            cached_tokens=spoken.cached_tokens,
            prompt_ids=call.token_ids,
            token_ids=tuple(spoken.token_ids),
            logprobs=chunk.behaviour_logprobs,
        )


def whole_room(prompt_limit: int) -> Callable[[int], None]:
    """Return what lets a reply have all the tokens that are kept for it, behind at most so many of a prompt."""

    def check(length: int) -> None:
        if length > prompt_limit:
            raise ContextOverflowError(
                f"the prompt has {length} tokens and at most {prompt_limit} leave room for a reply; "
                "lower max_tokens or the turn limit, or add a context strategy that bounds the conversation"
            )

    return check


@dataclass(frozen=True, kw_only=True)
class RecordedEpisode:
    """What a scaffold has in hand."""

    task: Task
    observation: Observation
    model: EpisodeModel
    tools: EpisodeTools
    context: ContextPipeline
    limits: Limits
    sandbox: Sandbox | None = None
    gateway: ModelGateway | None = None
    session: GatewaySession | None = None
    calls: list[GatewayCall] = field(default_factory=list)
    """How the calls went of all that was served so far."""

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Endpoint]:
        """Serve the recorded policy through the run's gateway for as long as the context is open."""
        if self.gateway is None or self.session is None:
            raise ContractError(
                "the agent is a program that speaks to a gateway, and the run names none; "
                'add one: backends = { gateway = "gateway", ... }'
            )
        endpoint = await self.gateway.open(self.session)
        try:
            yield endpoint
        finally:
            self.calls.extend(await self.gateway.end(endpoint))
