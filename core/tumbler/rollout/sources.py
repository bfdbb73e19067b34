"""Who speaks for the policy in an episode: the inference backend, an expert, or a recording.

Each source answers a prompt with token ids and the facts of the new chunk; none keeps the record.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from tumbler.contracts.agent import Demonstrator
from tumbler.contracts.environment import Expert
from tumbler.contracts.inference import GenerateRequest, Generation, InferenceBackend, Sampling, TextTokenizer
from tumbler.errors import InferenceError, ReplayMismatchError
from tumbler.seeding import derive_seed
from tumbler.trajectory.record import Anchor, Chunk

__all__ = [
    "ExpertSilentError",
    "ExpertSource",
    "PolicySource",
    "Prompt",
    "ReplaySource",
    "Source",
    "Spoken",
    "TeacherSource",
    "require_recorded_observation",
]


_ABOVE_ZERO = 1e-6
"""How far rounding may lift a log-probability."""


class ExpertSilentError(InferenceError):
    """An environment's expert was asked what only a model can answer; a strategy then does without."""

    infra = False

    def __init__(self, agent_id: str) -> None:
        """Say who asked."""
        super().__init__(f"an environment's expert acts and answers nobody else, here {agent_id!r}")


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What a source is asked."""

    session: str
    """Names the conversation, for the engine's cache."""
    call: int
    """How many calls came before."""
    token_ids: tuple[int, ...]
    observation: str
    """The environment's last answer."""
    max_tokens: int | None = None
    """Tokens of the reply, where fewer are asked for than the run samples."""
    temperature: float | None = None
    """Where it is not the run's."""
    agent_id: str = "main"


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """What a source said: the reply's ids and its chunk, whose place is not known yet."""

    token_ids: Sequence[int]
    chunk: Chunk
    cached_tokens: int = 0


class Source(Protocol):
    """Answers prompts."""

    async def speak(self, prompt: Prompt) -> Spoken:
        """Return the reply."""
        ...


class PolicySource:
    """The policy itself, sampled by the inference backend."""

    def __init__(self, inference: InferenceBackend, sampling: Sampling, seed: int) -> None:
        """Sample with `sampling`; each call draws its own seed from `seed`."""
        self._inference = inference
        self._sampling = sampling
        self._seed = seed

    async def speak(self, prompt: Prompt) -> Spoken:
        """Sample a reply."""
        request = GenerateRequest(
            token_ids=prompt.token_ids,
            sampling=self._asked(prompt),
            seed=derive_seed(self._seed, prompt.call),
            session=prompt.session,
        )
        generation = await self._inference.generate(request)
        _require_reply(generation)
        chunk = Chunk(
            segment=0,
            start=0,
            end=0,
            text=self._inference.tokenizer.decode(generation.token_ids),
            behaviour_logprobs=generation.logprobs,
            policy_version=generation.policy_version,
            finish_reason=generation.finish_reason,
            trainable=generation.finish_reason != "abort"
            and request.sampling.temperature == self._sampling.temperature,
        )
        return Spoken(token_ids=generation.token_ids, chunk=chunk, cached_tokens=generation.cached_tokens)

    def _asked(self, prompt: Prompt) -> Sampling:
        sampling = self._sampling
        if prompt.max_tokens is not None:
            sampling = replace(sampling, max_tokens=min(prompt.max_tokens, sampling.max_tokens))
        if prompt.temperature is not None:
            sampling = replace(sampling, temperature=prompt.temperature)
        return sampling


class TeacherSource:
    """Another model, sampled as the policy is; none of what it says is the policy's own."""

    def __init__(self, inference: InferenceBackend, sampling: Sampling, seed: int) -> None:
        """Sample with `sampling`; each call draws its own seed from `seed`."""
        self._model = PolicySource(inference, sampling, seed)

    async def speak(self, prompt: Prompt) -> Spoken:
        """Sample a reply."""
        spoken = await self._model.speak(prompt)
        chunk = replace(spoken.chunk, sampled=False, trainable=False, behaviour_logprobs=(), policy_version=None)
        return replace(spoken, chunk=chunk)


class ExpertSource:
    """The environment's expert, its actions written in the scaffold's own protocol."""

    def __init__(self, expert: Expert, scaffold: Demonstrator, tokenizer: TextTokenizer) -> None:
        """Let the expert act through the scaffold."""
        self._expert = expert
        self._scaffold = scaffold
        self._tokenizer = tokenizer

    async def speak(self, prompt: Prompt) -> Spoken:
        """Return the expert's next action as a reply that ends its turn."""
        if prompt.agent_id != "main":
            raise ExpertSilentError(prompt.agent_id)
        action = self._expert.act(prompt.observation)
        text = self._scaffold.write_action(action)
        chunk = Chunk(
            segment=0,
            start=0,
            end=0,
            text=text,
            sampled=False,
            trainable=False,
            relevant=action is None or action.relevant,
        )
        return Spoken(token_ids=[*self._tokenizer.encode(text), self._tokenizer.end_of_turn], chunk=chunk)


class ReplaySource:
    """The chunks before an anchor, word for word from the expert trajectory, then another source.

    A call is known by its agent and its prompt. Replies are given in the order of the record, also where agents
    speak side by side, so that each replayed chunk has the index that it had in the expert's trajectory.
    """

    def __init__(self, anchor: Anchor, then: Source) -> None:
        """Replay `anchor.chunk` chunks and hand over to `then`."""
        self._anchor = anchor
        self._then = then
        self._waiting = list(range(len(anchor.expert.chunks)))
        """The expert's chunks that nobody has asked for yet."""
        self._replayed = 0
        self._progress = asyncio.Condition()

    async def speak(self, prompt: Prompt) -> Spoken:
        """Return the recorded chunk, or what the policy says after the last of them."""
        index = self._claim(prompt)
        try:
            async with self._progress:
                await self._progress.wait_for(lambda: self._replayed >= min(index, self._anchor.chunk))
                if index < self._anchor.chunk:
                    self._replayed += 1
                    self._progress.notify_all()
        except asyncio.CancelledError:
            if index < self._anchor.chunk:
                self._waiting = sorted([*self._waiting, index])
            raise
        if index >= self._anchor.chunk:
            return await self._then.speak(prompt)
        return self._recorded(index)

    def _claim(self, prompt: Prompt) -> int:
        """Return which chunk the call led to in the expert's trajectory; one past the last for a new one."""
        chunks, segments = self._anchor.expert.chunks, self._anchor.expert.segments
        own = [index for index in self._waiting if segments[chunks[index].segment].agent_id == prompt.agent_id]
        for index in own:
            start, history = chunks[index].start, segments[chunks[index].segment].token_ids
            if start == len(prompt.token_ids) and history[:start] == prompt.token_ids:
                self._waiting.remove(index)
                return index
        if own and own[0] < self._anchor.chunk:
            raise ReplayMismatchError(
                f"the prompt before chunk {own[0]} differs from the one in expert trajectory "
                f"{self._anchor.expert.id!r}; the environment or the context strategy is not deterministic, so its "
                "tasks cannot be anchored"
            )
        if self._anchor.expert.header.source == "expert" and self._replayed < self._anchor.chunk:
            # The strategies went without an answer then, and must do so now.
            raise ExpertSilentError(prompt.agent_id)
        return len(chunks)

    def _recorded(self, index: int) -> Spoken:
        recorded = self._anchor.expert.chunks[index]
        chunk = Chunk(
            segment=0,
            start=0,
            end=0,
            text=recorded.text,
            sampled=False,
            replayed=True,
            trainable=False,
            relevant=recorded.relevant,
            finish_reason=recorded.finish_reason,
        )
        history = self._anchor.expert.segments[recorded.segment].token_ids
        return Spoken(token_ids=history[recorded.start : recorded.end], chunk=chunk)


def require_recorded_observation(anchor: Anchor, chunk: int, seen: str) -> None:
    """Raise `ReplayMismatchError` unless a replayed chunk saw what the expert's trajectory has for it."""
    expected = anchor.expert.chunks[chunk].observation
    if seen != expected:
        raise ReplayMismatchError(
            f"replayed chunk {chunk} of expert trajectory {anchor.expert.id!r} saw {seen!r} "
            f"where {expected!r} was recorded"
        )


def _require_reply(generation: Generation) -> None:
    """Raise `InferenceError` for a reply that cannot be recorded: such an episode is rolled again."""
    ids, logprobs = generation.token_ids, generation.logprobs
    problem = ""
    if not ids:
        problem = "no token at all; a reply holds at least the id that ended it"
    elif len(logprobs) != len(ids):
        problem = f"{len(logprobs)} log-probabilities for {len(ids)} tokens"
    elif min(ids) < 0:
        problem = f"the token id {min(ids)}"
    elif not all(math.isfinite(value) and value <= _ABOVE_ZERO for value in logprobs):
        problem = f"the log-probability {next(v for v in logprobs if not (math.isfinite(v) and v <= _ABOVE_ZERO))}"
    if problem:
        raise InferenceError(
            f"the inference backend answered with {problem} (finish reason {generation.finish_reason!r}); its replies "
            "need one finite log-probability of at most 0 for each token"
        )
