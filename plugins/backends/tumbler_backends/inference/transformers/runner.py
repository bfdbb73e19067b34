"""What the engine needs of a model: compute some tokens of some requests, return next-token logits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from tumbler_backends.inference.transformers.slots import Slot

__all__ = ["Runner", "Stretch"]


@dataclass(frozen=True)
class Stretch:
    """The tokens from `start` on, to be computed after the `start` ones that the slot holds."""

    slot: Slot
    token_ids: list[int]
    """The whole sequence up to the last token to compute."""
    start: int
    wants_logits: bool
    """Whether the last token's logits are asked for."""


class Runner(Protocol):
    """A model and its key-value cache."""

    def forward(self, stretches: Sequence[Stretch]) -> Tensor:
        """Compute the stretches and return [R, V] logits for the R of them that want theirs, in order."""
        ...

    def score(self, token_ids: Sequence[int]) -> Tensor:
        """Return [T, V] logits after each of the sequence's tokens, computed beside what is cached."""
        ...

    def copy(self, source: Slot, target: Slot, tokens: int) -> None:
        """Copy the keys and values of the source's first tokens."""
        ...

    def cut(self, slot: Slot, tokens: int) -> int:
        """Keep the slot's first `tokens` and return how many of them can be built upon: all, or none."""
        ...

    def forget(self) -> None:
        """Let go of all keys and values; the weights have changed."""
        ...
