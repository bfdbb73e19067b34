"""What inference backends have in common that compute nothing: they answer from rules or records. Knows neither."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tumbler.contracts.inference import FinishReason, GenerateRequest, Generation, TextTokenizer, WeightUpdate
from tumbler.errors import InferenceError
from tumbler_backends.inference.requests import context_room
from tumbler_backends.inference.transformers.tokenizer import HuggingFaceTokenizer

__all__ = ["Answer", "Answers", "StandIn"]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A whole reply."""

    token_ids: Sequence[int]
    logprobs: Sequence[float]
    finish_reason: FinishReason = "stop"


class Answers(Protocol):
    """Where replies come from; a pure function of the request."""

    def answer(self, request: GenerateRequest, tokenizer: TextTokenizer) -> Answer:
        """Return the reply, longer than the request allows if need be."""
        ...


class StandIn:
    """Serves answers in place of a policy. New weights change the version under which it answers, and nothing else."""

    def __init__(self, answers: Answers) -> None:
        """Answer from `answers`."""
        self._answers = answers
        self._tokenizer: TextTokenizer | None = None
        self._version = 0
        self._requests = 0
        self._tokens = 0

    async def start(self, model: Path) -> None:
        """Load the tokenizer of the model folder."""
        self._tokenizer = await asyncio.to_thread(HuggingFaceTokenizer, model)

    @property
    def tokenizer(self) -> TextTokenizer:
        """Return the model's tokenizer."""
        if self._tokenizer is None:
            raise InferenceError("the inference backend is not running: it was not started, or has been closed")
        return self._tokenizer

    async def generate(self, request: GenerateRequest) -> Generation:
        """Return the answer, cut at what the request and the model's context allow."""
        limit = context_room(request, self.tokenizer.context_length)
        answer = self._answers.answer(request, self.tokenizer)
        ids = tuple(answer.token_ids[:limit])
        self._requests += 1
        self._tokens += len(ids)
        return Generation(
            token_ids=ids,
            logprobs=tuple(answer.logprobs[:limit]),
            finish_reason="length" if len(ids) < len(answer.token_ids) else answer.finish_reason,
            policy_version=self._version,
        )

    async def release(self, session: str) -> None:
        """Do nothing: nothing is cached."""

    async def update_weights(self, update: WeightUpdate) -> None:
        """Answer under the new version."""
        self._version = update.version

    def metrics(self) -> Mapping[str, float]:
        """Return how much was answered."""
        return {"requests": float(self._requests), "tokens_sampled": float(self._tokens)}

    async def close(self) -> None:
        """Stop answering."""
        self._tokenizer = None
