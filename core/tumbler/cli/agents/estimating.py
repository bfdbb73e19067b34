"""Counts tokens where the model's tokenizer is not at hand: an estimate that corrects itself; knows no server."""

import math
from collections.abc import Sequence
from typing import Final

from tumbler.contracts.values import Message
from tumbler.errors import InferenceError

__all__ = ["CHARACTERS_A_TOKEN", "EstimatedTokenizer"]

CHARACTERS_A_TOKEN: Final = 3.5
"""Of English text and code, as the first guess; it errs on the side of too many tokens."""

_LEAST: Final = 0.5
_MOST: Final = 4.0
"""A correction past these is rather a server that counts something else."""


class EstimatedTokenizer:
    """A `TextTokenizer` that only counts. What was counted before a correction keeps its number."""

    fingerprint = "estimated"
    end_of_turn = -1

    def __init__(self, context_length: int) -> None:
        """Start from `CHARACTERS_A_TOKEN`."""
        self._context_length = context_length
        self._factor = 1.0

    @property
    def context_length(self) -> int:
        """Return the window that was said."""
        return self._context_length

    @property
    def characters_a_token(self) -> float:
        """Return the ratio that is counted with now."""
        return CHARACTERS_A_TOKEN / self._factor

    def learn(self, *, estimated: int, counted: int) -> None:
        """Take in that a conversation guessed at `estimated` tokens, uncorrected, really had `counted`."""
        if estimated > 0 and counted > 0:
            self._factor = min(max(counted / estimated, _LEAST), _MOST)

    def encode(self, text: str) -> list[int]:
        """Return as many zeros as there may be tokens."""
        return [0] * math.ceil(len(text) / self.characters_a_token)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Refuse: there are no tokens."""
        raise InferenceError("tokens that were only estimated have no text")

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        """Return the conversation with about as much around each message as chat templates put there."""
        text = "".join(f"<|{message.role}|>\n{message.content}\n" for message in messages)
        return f"{text}<|assistant|>\n" if add_generation_prompt else text
