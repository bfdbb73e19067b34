"""The losses of a micro-batch: supervised, and the algorithm's with all that it asked for. S loss tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from tumbler.contracts.algorithm import Algorithm, UpdateRule
from tumbler.contracts.batch import LossOutput
from tumbler_backends.training.torch.collate import LossTokens, collate, token_batch
from tumbler_backends.training.torch.layout import Example
from tumbler_backends.training.torch.old_policy import OldPolicy
from tumbler_backends.training.torch.policy import Scores
from tumbler_backends.training.torch.scoring import PerExample, Scorer, gather
from tumbler_backends.training.torch.value_head import ValueHead

__all__ = ["AlgorithmLoss", "SupervisedLoss", "old_and_values"]


@dataclass(frozen=True, kw_only=True)
class SupervisedLoss:
    """Eq. 1-2 of arXiv 2512.24873: the loss tokens' negative log-likelihood over their number."""

    forward: Callable[..., Scores]
    device: torch.device

    def __call__(self, examples: Sequence[Example]) -> LossOutput:
        """Return the loss of a micro-batch."""
        scores = self.forward(collate(examples, device=self.device))
        count = float(len(scores.logprobs))
        entropy = {"train/entropy": (float(scores.entropies.sum()), count)}
        return LossOutput(total=-scores.logprobs.sum(), denominator=count, metrics=entropy)


@dataclass(frozen=True, kw_only=True)
class AlgorithmLoss:
    """An algorithm's loss, and what was taken of the examples before their first optimizer step."""

    algorithm: Algorithm
    forward: Callable[..., Scores]
    device: torch.device
    head: ValueHead | None
    """None for an algorithm that asks for no values."""
    old: PerExample | None
    """Log-probabilities of the policy that sampled; None if the only forward pass gives them."""
    old_values: PerExample | None
    """None without a head, or if the only forward pass gives them."""
    reference: PerExample | None
    """Log-probabilities of the reference policy; None for an algorithm that asks for none."""

    def __call__(self, examples: Sequence[Example]) -> LossOutput:
        """Return the loss of a micro-batch."""
        wanted = self.algorithm.update_rule
        batch = collate(examples, device=self.device)
        scores = self.forward(batch, entropy_gradient=wanted.entropy, with_states=self.head is not None)
        tokens = token_batch(examples, batch, self._tokens(examples, scores))
        output = self.algorithm.loss(tokens)
        trained = tokens.chunk_of_token.flatten()[batch.positions] >= 0
        entropy = {"train/entropy": (float(scores.entropies.detach()[trained].sum()), float(trained.sum()))}
        return replace(output, metrics={**entropy, **output.metrics})

    def _tokens(self, examples: Sequence[Example], scores: Scores) -> LossTokens:
        values = None if self.head is None or scores.states is None else self.head(scores.states)
        old_values = None if values is None else values.detach()
        return LossTokens(
            policy=scores.logprobs,
            old=scores.logprobs.detach() if self.old is None else gather(self.old, examples),
            reference=None if self.reference is None else gather(self.reference, examples),
            entropies=scores.entropies if self.algorithm.update_rule.entropy else None,
            values=values,
            old_values=old_values if self.old_values is None else gather(self.old_values, examples),
        )


def old_and_values(
    rule: UpdateRule, examples: Sequence[Example], *, scorer: Scorer, old_policy: OldPolicy, head: ValueHead | None
) -> tuple[PerExample | None, PerExample | None]:
    """Return old log-probabilities and old values, from one forward pass if they are of the same weights.

    Either is None where the forward pass of the batch's only step gives it.
    """
    once = rule.epochs * rule.minibatches == 1
    old: PerExample | None = None
    values: PerExample | None = None
    if head is not None and not once:
        old, values = scorer.logprobs_and_values(examples, head)
    if not old_policy.is_current(rule.old_policy, examples):
        old = old_policy.logprobs(rule.old_policy, examples)
    elif old is None and not once:
        old = scorer.logprobs(examples)
    return old, values
