"""What a context strategy may use beyond what it sees: the policy, files, the tokenizer's count."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from tumbler.contracts.inference import FinishReason
from tumbler.contracts.values import Message

__all__ = ["EpisodeFiles", "StrategyIO", "StrategyReply"]


@dataclass(frozen=True, kw_only=True)
class StrategyReply:
    """What a model said to a strategy."""

    text: str
    call: int
    """The call's number in the episode's record; `Summarise.call` names it."""
    finish_reason: FinishReason = "stop"


@runtime_checkable
class EpisodeFiles(Protocol):
    """Files of one episode, for what a strategy keeps out of the prompt."""

    @property
    def folder(self) -> str | None:
        """Return where they lie in the sandbox, for the agent to read; None where it has no sandbox."""
        ...

    async def write(self, name: str, text: str) -> str:
        """Keep a text under a plain file name, replacing what it held; return the path to show the agent."""
        ...

    async def read(self, name: str) -> str | None:
        """Return a text that is kept, also as the agent changed it; None if there is none."""
        ...


@runtime_checkable
class StrategyIO(Protocol):
    """What a strategy may use beyond the view."""

    async def model(
        self,
        messages: Sequence[Message],
        *,
        role: str = "summarizer",
        max_tokens: int | None = None,
        trainable: bool = True,
    ) -> StrategyReply:
        """Ask the policy, in a segment of its own that is recorded like any other.

        Raises `ContextOverflowError` where the messages leave no room for a reply: send fewer.
        """
        ...

    @property
    def files(self) -> EpisodeFiles:
        """Return the episode's files."""
        ...

    def count(self, text: str) -> int:
        """Return how many tokens the served tokenizer makes of the text."""
        ...
