"""What a strategy may use beyond the view: the recorded policy, the episode's files, the tokenizer's count."""

from collections.abc import MutableMapping, Sequence
from typing import Protocol

from tumbler.contracts.agent import Reply
from tumbler.contracts.context import EpisodeFiles, StrategyReply
from tumbler.contracts.values import Message
from tumbler.errors import InferenceError
from tumbler.rollout.context.counting import TokenCounter

__all__ = ["AskModel", "PipelineIO"]


class AskModel(Protocol):
    """Asks the recorded policy on behalf of a strategy."""

    async def __call__(
        self, messages: Sequence[Message], *, agent_id: str, max_tokens: int | None, trainable: bool
    ) -> Reply:
        """Return the reply; its chunk is the call's number."""
        ...


class PipelineIO:
    """The `StrategyIO` of one strategy in one episode."""

    def __init__(
        self,
        strategy: str,
        counter: TokenCounter,
        files: EpisodeFiles,
        model: AskModel | None,
        replies: MutableMapping[int, str],
    ) -> None:
        """Note in `replies` what the model said to which call."""
        self._strategy = strategy
        self._counter = counter
        self._files = files
        self._model = model
        self._replies = replies

    async def model(
        self,
        messages: Sequence[Message],
        *,
        role: str = "summarizer",
        max_tokens: int | None = None,
        trainable: bool = True,
    ) -> StrategyReply:
        """Ask the policy, in a segment of its own."""
        if self._model is None:
            raise InferenceError(f"context strategy {self._strategy!r} asks a model, and nobody here can answer it")
        agent_id = f"{self._strategy}/{role}"
        reply = await self._model(messages, agent_id=agent_id, max_tokens=max_tokens, trainable=trainable)
        self._replies[reply.chunk] = reply.text
        return StrategyReply(text=reply.text, call=reply.chunk, finish_reason=reply.finish_reason)

    @property
    def files(self) -> EpisodeFiles:
        """Return the episode's files."""
        return self._files

    def count(self, text: str) -> int:
        """Return how many tokens the served tokenizer makes of the text."""
        return self._counter.text(text)
