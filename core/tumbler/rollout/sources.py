"""Who speaks for the policy in an episode: the inference backend, an expert, or a recording.

Each source answers a prompt with token ids and the facts of the new chunk; none keeps the record.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from tumbler.contracts.agent import Demonstrator
from tumbler.contracts.environment import Expert
from tumbler.contracts.inference import GenerateRequest, InferenceBackend, Sampling, TextTokenizer
from tumbler.errors import InferenceError, ReplayMismatchError
from tumbler.seeding import derive_seed
from tumbler.trajectory.record import Anchor, Chunk

__all__ = [
    "ExpertSource",
    "PolicySource",
    "Prompt",
    "ReplaySource",
    "Source",
    "Spoken",
    "TeacherSource",
    "require_recorded_observation",
]


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

    def _as_the_run_samples(self, sampling: Sampling) -> bool:
        return sampling.temperature == self._sampling.temperature

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
            raise InferenceError(f"an environment's expert acts and answers nobody else, here {prompt.agent_id!r}")
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
    """The chunks before an anchor, word for word from the expert trajectory, then another source."""

    def __init__(self, anchor: Anchor, then: Source) -> None:
        """Replay `anchor.chunk` chunks and hand over to `then`."""
        self._anchor = anchor
        self._then = then

    async def speak(self, prompt: Prompt) -> Spoken:
        """Return the recorded chunk, or what the policy says after the last of them."""
        if prompt.call >= self._anchor.chunk:
            return await self._then.speak(prompt)
        expert = self._anchor.expert
        recorded = expert.chunks[prompt.call]
        history = expert.segments[recorded.segment].token_ids
        if history[: recorded.start] != prompt.token_ids:
            raise ReplayMismatchError(
                f"the prompt before chunk {prompt.call} differs from the one in expert trajectory {expert.id!r}; "
                "the environment or the context strategy is not deterministic, so its tasks cannot be anchored"
            )
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
        return Spoken(token_ids=history[recorded.start : recorded.end], chunk=chunk)


def require_recorded_observation(anchor: Anchor, chunk: int, seen: str) -> None:
    """Raise `ReplayMismatchError` unless a replayed chunk saw what the expert's trajectory has for it."""
    expected = anchor.expert.chunks[chunk].observation
    if seen != expected:
        raise ReplayMismatchError(
            f"replayed chunk {chunk} of expert trajectory {anchor.expert.id!r} saw {seen!r} "
            f"where {expected!r} was recorded"
        )
