"""A policy outside of a run, recorded: each call becomes a chunk of a trajectory that nobody judges."""

from collections.abc import Sequence
from dataclasses import replace

from tumbler import __version__
from tumbler.contracts.agent import Reply
from tumbler.contracts.environment import StepResult
from tumbler.contracts.inference import InferenceBackend, Sampling
from tumbler.contracts.values import Message, ToolCall
from tumbler.errors import ContextOverflowError
from tumbler.rollout.recorder import OpenCall, Recorder
from tumbler.rollout.sources import PolicySource, Prompt
from tumbler.trajectory import Component, Header, Trajectory

__all__ = ["RecordedPolicy"]


class RecordedPolicy:
    """An `EpisodeModel` over an inference backend, and its record."""

    def __init__(self, name: str, inference: InferenceBackend, sampling: Sampling, seed: int) -> None:
        """Begin a record named `name`; the backend is started."""
        self._name = name
        self._inference = inference
        self._sampling = sampling
        self._seed = seed
        self._source = PolicySource(inference, sampling, seed)
        self._recorder = Recorder(inference.tokenizer)

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
        """Return the policy's reply and record it; see `tumbler.contracts.agent.EpisodeModel.generate`."""
        call = self._recorder.open_call(agent_id, messages, cause=cause)
        try:
            prompt = Prompt(
                session=f"{self._name}/{call.session}",
                call=call.number,
                token_ids=call.token_ids,
                observation="",
                max_tokens=self._room(call, max_tokens),
                temperature=temperature,
                agent_id=agent_id,
            )
            spoken = await self._source.speak(prompt)
        except BaseException:
            self._recorder.abandon_call(call)
            raise
        chunk = spoken.chunk if trainable else replace(spoken.chunk, trainable=False)
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

    def note(self, call: ToolCall, result: StepResult, *, chunk: int) -> None:
        """Record a call that the client carried out, and what it brought."""
        self._recorder.note_call(chunk, call, result)

    def reject(self, *, chunk: int, reason: str) -> None:
        """Record that the chunk made a call that cannot be carried out."""
        self._recorder.note_rejection(chunk, reason)

    def trajectory(self) -> Trajectory:
        """Return what was recorded."""
        served = Component(id="gateway", version=__version__, settings_hash="")
        return Trajectory(
            header=Header(
                id=self._name,
                task="",
                env=served,
                agent=served,
                seed=self._seed,
                tokenizer=self._inference.tokenizer.fingerprint,
                temperature=self._sampling.temperature,
            ),
            segments=self._recorder.segments,
            chunks=self._recorder.chunks,
            status="dropped",
            status_reason="the session was served without a task, so that nothing judged it",
        )

    async def release(self) -> None:
        """Let the backend forget the conversations."""
        for session in self._recorder.sessions:
            await self._inference.release(f"{self._name}/{session}")

    def _room(self, call: OpenCall, wanted: int | None) -> int:
        """Return how many tokens the reply may have: as many as the context leaves, where that is less."""
        left = self._inference.tokenizer.context_length - len(call.token_ids)
        if left < 1:
            raise ContextOverflowError(
                f"the prompt has {len(call.token_ids)} tokens, and the model takes "
                f"{self._inference.tokenizer.context_length} with the reply"
            )
        return min(left, self._sampling.max_tokens, wanted or self._sampling.max_tokens)
