"""The episode that a scaffold has in hand: recorded model, recorded tools, context, limits."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tumbler.contracts.agent import EpisodeModel, EpisodeTools, Limits, Reply
from tumbler.contracts.context import ContextPipeline
from tumbler.contracts.environment import Environment, Observation, StepResult, Task
from tumbler.contracts.values import Message, ToolCall, ToolSpec
from tumbler.errors import ContextOverflowError, ContractError
from tumbler.rollout.preparation import PreparedAnchor
from tumbler.rollout.recorder import Recorder
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
        self.last_observation = ""

    @property
    def specs(self) -> Sequence[ToolSpec]:
        """Return the tools on offer."""
        return self._environment.tools()

    async def call(self, call: ToolCall, *, chunk: int) -> StepResult:
        """Carry out a call that the given chunk made."""
        self._check(chunk)
        with self._clock.phase("tools"):
            result = await self._answer(call, chunk)
        self._recorder.note_call(chunk, call, result)
        self.last_observation = self._recorder.chunks[chunk].observation
        self._compare(chunk)
        return result

    def reject(self, *, chunk: int, reason: str) -> None:
        """Record that the chunk made no call that can be carried out."""
        self._check(chunk)
        self._recorder.note_rejection(chunk, reason)
        self.last_observation = reason
        self._compare(chunk)

    async def _answer(self, call: ToolCall, chunk: int) -> StepResult:
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
        # The record holds what all calls of a chunk brought, so there is nothing to compare before the last one.
        if len(made.tool_calls) >= len(recorded.tool_calls):
            require_recorded_observation(self._anchor, chunk, self.last_observation)


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
    ) -> None:
        """Ask `source`; prompts longer than `prompt_limit` tokens overflow."""
        self._source = source
        self._recorder = recorder
        self._tools = tools
        self._clock = clock
        self._episode = episode
        self._prompt_limit = prompt_limit

    async def generate(self, messages: Sequence[Message], *, agent_id: str = "main") -> Reply:
        """Return the policy's reply to the conversation and record it."""
        segment, token_ids = self._recorder.open_call(agent_id, messages)
        if len(token_ids) > self._prompt_limit:
            raise ContextOverflowError(
                f"the prompt has {len(token_ids)} tokens and at most {self._prompt_limit} leave room for a reply; "
                "lower max_tokens or the turn limit, or add a context strategy that bounds the conversation"
            )
        prompt = Prompt(
            episode=self._episode,
            segment=segment,
            call=len(self._recorder.chunks),
            token_ids=token_ids,
            observation=self._tools.last_observation,
        )
        with self._clock.phase("model"):
            spoken = await self._source.speak(prompt)
        index = self._recorder.close_call(agent_id, spoken.token_ids, spoken.chunk)
        return Reply(text=spoken.chunk.text, finish_reason=spoken.chunk.finish_reason, chunk=index)


@dataclass(frozen=True, kw_only=True)
class RecordedEpisode:
    """What a scaffold has in hand."""

    task: Task
    observation: Observation
    model: EpisodeModel
    tools: EpisodeTools
    context: ContextPipeline
    limits: Limits
