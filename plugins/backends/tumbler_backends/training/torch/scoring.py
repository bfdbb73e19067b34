"""Scores examples as they stand, without gradient and within the token budget. S loss tokens of an example."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from tumbler_backends.training.torch.batching import micro_batches
from tumbler_backends.training.torch.collate import Batch, collate
from tumbler_backends.training.torch.layout import Example
from tumbler_backends.training.torch.policy import Policy, Scores
from tumbler_backends.training.torch.value_head import ValueHead

__all__ = ["PerExample", "Scorer", "gather"]

PerExample: TypeAlias = Mapping[int, Tensor]
"""[S] numbers of each example, by the example's identity."""


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """Takes log-probabilities and values under given weights."""

    policy: Policy
    forward: Callable[..., Scores]
    """The policy as prepared for training, with the current weights."""
    micro_batch_tokens: int
    device: torch.device

    def logprobs(self, examples: Sequence[Example], weights: Mapping[str, Tensor] | None = None) -> PerExample:
        """Return the loss tokens' log-probabilities under other weights, as `folders.copy_weights` gave them.

        None stands for the current ones.
        """
        if weights is None:
            return self._score(examples, lambda batch: self.forward(batch).logprobs)
        return self._score(examples, lambda batch: self.policy.score_with(weights, batch).logprobs)

    def logprobs_and_values(self, examples: Sequence[Example], head: ValueHead) -> tuple[PerExample, PerExample]:
        """Return both under the current weights, from one forward pass."""

        def both(batch: Batch) -> Tensor:
            scores = self.forward(batch, with_states=True)
            assert scores.states is not None, "states were asked for"
            return torch.stack([scores.logprobs, head(scores.states)], dim=-1)

        found = self._score(examples, both)
        return {key: pair[:, 0] for key, pair in found.items()}, {key: pair[:, 1] for key, pair in found.items()}

    @torch.no_grad()
    def _score(self, examples: Sequence[Example], score: Callable[[Batch], Tensor]) -> PerExample:
        scores: dict[int, Tensor] = {}
        for batch in micro_batches(examples, tokens=self.micro_batch_tokens, share=self.policy.shares):
            parts = torch.split(score(collate(batch, device=self.device)), [each.loss_tokens for each in batch])
            scores.update((id(example), part) for example, part in zip(batch, parts, strict=True))
        return scores


def gather(numbers: PerExample, examples: Sequence[Example]) -> Tensor:
    """Return the numbers of the examples' loss tokens, in the order of a batch of these examples."""
    return torch.cat([numbers[id(each)] for each in examples])
