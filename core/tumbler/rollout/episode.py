"""The episode that a scaffold has in hand: recorded model, recorded tools, context, limits."""

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from tumbler.contracts.agent import EpisodeModel, EpisodeTools, Limits, Reply
from tumbler.contracts.context import ContextPipeline, StrategyAnswer
from tumbler.contracts.environment import Environment, Observation, StepResult, Task
from tumbler.contracts.gateway import Endpoint, GatewayCall, GatewaySession, ModelGateway
from tumbler.contracts.sandbox import Sandbox
from tumbler.contracts.values import Message, ToolCall, ToolSpec
from tumbler.errors import ContextOverflowError, ContractError
from tumbler.rollout.preparation import PreparedAnchor
from tumbler.rollout.recorder import OpenCall, Recorder
from tumbler.rollout.sources import Prompt, Source, require_recorded_observation
from tumbler.trajectory.record import Anchor

__all__ = ["PhaseClock", "RecordedEpisode", "RecordedModel", "RecordedTools"]


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


class ToolAnswers(Protocol):
    """Tools that the context strategies answer."""

    @property
    def tools(self) -> Sequence[ToolSpec]:
        """Return the tools."""
        ...

    async def call(self, call: ToolCall) -> StrategyAnswer:
        """Carry out a call of one of them."""
        ...


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
        self._strategies: ToolAnswers | None = None
        self.last_observation = ""

    def offer(self, strategies: "ToolAnswers") -> None:
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
        """Carry out a call that the given chunk made."""
        self._check(chunk)
        with self._clock.phase("tools"):
            result = await self._answer(call, chunk)
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
    """The policy as a scaffold calls it; each call becomes one chunk."""

    def __init__(
        self,
        source: Source,
        recorder: Recorder,
        tools: RecordedTools,
        clock: PhaseClock,
        *,
        episode: str,
        prompt_limit: int,
        on_prompt: Callable[[int], None] = lambda _tokens: None,
        on_reply: Callable[[str, Sequence[int]], None] = lambda _text, _token_ids: None,
        rewritten: Callable[[], bool] = lambda: False,
    ) -> None:
        """Ask `source`; prompts longer than `prompt_limit` tokens overflow.

        `on_prompt` is told the true length of each prompt of the main conversation, `on_reply` each reply to it as
        it was sampled, and `rewritten` tells whether that conversation says something else than before.
        """
        self._source = source
        self._recorder = recorder
        self._tools = tools
        self._clock = clock
        self._episode = episode
        self._prompt_limit = prompt_limit
        self._on_prompt = on_prompt
        self._on_reply = on_reply
        self._rewritten = rewritten

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
        if cause is None and agent_id == "main" and self._rewritten():
            cause = "rewrite"
        call = self._recorder.open_call(agent_id, messages, cause=cause)
        try:
            self._require_room(call, agent_id)
            prompt = Prompt(
                session=f"{self._episode}/{call.session}",
                call=call.number,
                token_ids=call.token_ids,
                observation=self._tools.last_observation,
                max_tokens=max_tokens,
                temperature=temperature,
                agent_id=agent_id,
            )
            with self._clock.phase("model"):
                spoken = await self._source.speak(prompt)
        except BaseException:
            self._recorder.abandon_call(call)
            raise
        chunk = spoken.chunk if trainable else replace(spoken.chunk, trainable=False)
        if agent_id == "main":
            self._on_reply(chunk.text, tuple(spoken.token_ids))
        return Reply(
            text=chunk.text,
            finish_reason=chunk.finish_reason,
            chunk=self._recorder.close_call(call, spoken.token_ids, chunk),
            prompt_tokens=len(call.token_ids),
            tokens=len(spoken.token_ids),
            cached_tokens=spoken.cached_tokens,
            prompt_ids=call.token_ids,
            token_ids=tuple(spoken.token_ids),
            logprobs=chunk.behaviour_logprobs,
        )

    def _require_room(self, call: OpenCall, agent_id: str) -> None:
        length = len(call.token_ids)
        if agent_id == "main":
            self._on_prompt(length)
        if length > self._prompt_limit:
            raise ContextOverflowError(
                f"the prompt has {length} tokens and at most {self._prompt_limit} leave room for a reply; "
                "lower max_tokens or the turn limit, or add a context strategy that bounds the conversation"
            )


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
