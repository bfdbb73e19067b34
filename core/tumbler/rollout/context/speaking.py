"""What a strategy may use beyond the view: the recorded policy, the episode's files, the tokenizer's count."""

from collections.abc import Collection, MutableMapping, Sequence
from typing import Protocol

from tumbler.contracts.agent import Reply
from tumbler.contracts.context import EpisodeFiles, StrategyReply
from tumbler.contracts.values import Message
from tumbler.dialects.thinking import split_thinking
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
        *,
        agent_id: str = "main",
    ) -> None:
        """Note in `replies` what the model said to which call; `agent_id` is whose conversation it is about."""
        self._strategy = strategy
        self._asker = strategy if agent_id == "main" else f"{agent_id}/{strategy}"
        self._counter = counter
        self._files = files
        self._model = model
        self._replies = replies
        self.made: list[int] = []
        """The calls made since this was last cleared."""
        self._quoted: dict[int, set[int]] = {}
        """Call → those before it whose words its prompt held."""

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
        agent_id = f"{self._asker}/{role}"
        reply = await self._model(messages, agent_id=agent_id, max_tokens=max_tokens, trainable=trainable)
        # What the policy thinks before it speaks is not what it says.
        _, text, _ = split_thinking(reply.text)
        asked = "\n".join(message.content for message in messages)
        self._quoted[reply.chunk] = {each for each in self.made if _holds(asked, self._replies[each])}
        self._replies[reply.chunk] = text
        self.made.append(reply.chunk)
        return StrategyReply(text=text, call=reply.chunk, finish_reason=reply.finish_reason)

    def unused(self, named: Collection[int]) -> list[int]:
        """Return which of the calls made have their words neither in what is `named` nor in what led to it."""
        used = set(named)
        for call in reversed(self.made):
            if call in used:
                used |= self._quoted[call]
        return [call for call in self.made if call not in used]

    @property
    def files(self) -> EpisodeFiles:
        """Return the episode's files."""
        return self._files

    def count(self, text: str) -> int:
        """Return how many tokens the served tokenizer makes of the text."""
        return self._counter.text(text)


def _holds(prompt: str, reply: str) -> bool:
    return bool(reply.strip()) and reply.strip() in prompt
