"""Scores examples as they stand, without gradient and within the token budget. S loss tokens of an example."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from tumbler_backends.training.torch.batching import micro_batches, share_out
from tumbler_backends.training.torch.collate import Batch, collate
from tumbler_backends.training.torch.layout import Example
from tumbler_backends.training.torch.parallel.strategy import Forward, Strategy
from tumbler_backends.training.torch.value_head import ValueHead

__all__ = ["PerExample", "Scorer", "gather"]

PerExample: TypeAlias = Mapping[int, Tensor]
"""[S] numbers of each example, by the example's identity."""


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """Takes log-probabilities and values under given weights, together with the other trainers of a team."""

    strategy: Strategy
    forward: Forward
    """The policy as prepared for training, with the current weights."""
    micro_batch_tokens: int
    shares: bool
    """Whether the policy computes common prefixes once."""

    @property
    def device(self) -> torch.device:
        """Return where the scores are."""
        return self.strategy.device

    def logprobs(self, examples: Sequence[Example], weights: Mapping[str, Tensor] | None = None) -> PerExample:
        """Return the loss tokens' log-probabilities under other weights, as held by the strategy.

        None stands for the current ones.
        """
        if weights is None:
            return self._score(examples, lambda batch: self.forward(batch).logprobs)
        with self.strategy.using(weights) as forward:
            return self._score(examples, lambda batch: forward(batch).logprobs)

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
        team = self.strategy.team
        own = share_out(examples, parts=team.size, share=self.shares)[team.rank]
        scores: dict[int, Tensor] = {}
        batches = micro_batches(own, tokens=self.micro_batch_tokens, share=self.shares)
        passes = self.strategy.passes(len(batches))
        for batch in batches:
            team.beat()
            parts = torch.split(score(collate(batch, device=self.device)), [each.loss_tokens for each in batch])
            scores.update((id(example), part) for example, part in zip(batch, parts, strict=True))
        self.strategy.idle(passes - len(batches), gradient=False)
        return scores if team.size == 1 else self._exchange(examples, scores)

    def _exchange(self, examples: Sequence[Example], scores: Mapping[int, Tensor]) -> PerExample:
        """Return the scores of all trainers, each of which has scored a part of the same examples."""
        # A view would be sent with all that it is a view of.
        own = {index: scores[id(each)].cpu().clone() for index, each in enumerate(examples) if id(each) in scores}
        found = {index: each for part in self.strategy.team.gather(own) for index, each in part.items()}
        return {id(each): found[index].to(self.device) for index, each in enumerate(examples)}


def gather(numbers: PerExample, examples: Sequence[Example]) -> Tensor:
    """Return the numbers of the examples' loss tokens, in the order of a batch of these examples."""
    return torch.cat([numbers[id(each)] for each in examples])
