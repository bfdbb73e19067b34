"""A model behind OpenAI's API: for chats, and as the policy of runs that do not train. Knows no algorithm."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from tumbler.contracts.inference import GenerateRequest, Generation, Sampling, TextTokenizer, WeightUpdate
from tumbler.contracts.values import Message
from tumbler.errors import InferenceError
from tumbler_backends.gateway.upstream.model import UpstreamModel
from tumbler_backends.inference.counters import Counters
from tumbler_backends.inference.openai.completions import Completion, read_completion, write_completion
from tumbler_backends.inference.requests import context_room

__all__ = ["ServedPolicy"]

_GREETING = Message(role="user", content="Say a word.")


class ServedPolicy(UpstreamModel):
    """Sends token ids and gets token ids. Its weights are the server's own: they cannot be given new ones.

    Log-probabilities are as the server reports them. The run's model folder gives the tokenizer alone.
    """

    _tokenizer: TextTokenizer | None = None
    _stops: tuple[int, ...] = ()
    _counters: Counters

    async def start(self, model: Path) -> None:
        """Load the tokenizer of the model folder, and ask for a token to see whether it is the server's too.

        Raises `InferenceError` where the server cannot be asked for tokens or reads others than were sent.
        """
        from tumbler_backends.inference.transformers.tokenizer import HuggingFaceTokenizer

        self._counters = Counters()
        tokenizer = await asyncio.to_thread(HuggingFaceTokenizer, model)
        self._stops = (
            tokenizer.end_of_turn,
            *(each for each in tokenizer.end_of_text if each != tokenizer.end_of_turn),
        )
        prompt = tuple(tokenizer.encode(tokenizer.render([_GREETING], add_generation_prompt=True)))
        answer = await self._complete(GenerateRequest(token_ids=prompt, sampling=Sampling(temperature=0.0), seed=0), 1)
        _require_equal(tokenizer, prompt, answer)
        self._tokenizer = tokenizer

    @property
    def tokenizer(self) -> TextTokenizer:
        """Return the model folder's tokenizer."""
        if self._tokenizer is None:
            raise InferenceError("the inference backend is not running: it was not started, or has been closed")
        return self._tokenizer

    async def generate(self, request: GenerateRequest) -> Generation:
        """Return one reply; raises as `UpstreamModel.chat` does."""
        room = context_room(request, min(self.tokenizer.context_length, self.context_length))
        answer = await self._complete(request, room)
        self._counters.requests += 1
        self._counters.tokens_sampled += len(answer.token_ids)
        self._counters.tokens_cached += answer.cached_tokens
        self._counters.tokens_computed += len(request.token_ids) - answer.cached_tokens + len(answer.token_ids)
        return Generation(
            token_ids=answer.token_ids,
            logprobs=answer.logprobs,
            finish_reason=answer.finish_reason,
            policy_version=0,
            cached_tokens=answer.cached_tokens,
        )

    async def release(self, session: str) -> None:
        """Do nothing: the server's cache is its own."""

    async def update_weights(self, update: WeightUpdate) -> None:
        """Raise `InferenceError`: a served model cannot be trained."""
        raise InferenceError(
            f"the model at {self.base_url} cannot be given new weights (version {update.version}): evaluate with it "
            'alone (stages = ["eval"]), or train with backends.inference = "transformers" or "vllm"'
        )

    def metrics(self) -> Mapping[str, float]:
        """Return counters since `start`."""
        return self._counters.as_mapping()

    async def close(self) -> None:
        """Close the connections, and with them fail what is in flight."""
        self._tokenizer = None
        await super().close()

    async def _complete(self, request: GenerateRequest, max_tokens: int) -> Completion:
        return read_completion(await self.complete(write_completion(request, max_tokens=max_tokens, stops=self._stops)))


def _require_equal(tokenizer: TextTokenizer, prompt: tuple[int, ...], answer: Completion) -> None:
    understood = answer.prompt_token_ids
    if understood is not None and understood != prompt:
        raise InferenceError(
            f"the server read {len(understood)} token ids where {len(prompt)} were sent: it adds or changes some"
        )
    said = tokenizer.decode(answer.token_ids)
    if answer.text and said and "�" not in answer.text + said and answer.text.strip() != said.strip():
        raise InferenceError(
            f"the server's tokenizer is not that of the run's model folder: the ids {list(answer.token_ids)} are "
            f"{answer.text!r} there and {said!r} here; let `model` name a folder with the served model's tokenizer"
        )
