"""Log-probabilities of the policy that sampled, as the training engine sees them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tumbler.contracts.batch import OldPolicySource
from tumbler.errors import RunError
from tumbler_backends.training.torch.batching import micro_batches
from tumbler_backends.training.torch.collate import Batch, behaviour_logprobs, collate
from tumbler_backends.training.torch.layout import Example
from tumbler_backends.training.torch.policy import Policy

__all__ = ["OldPolicy"]


@dataclass(frozen=True, kw_only=True)
class OldPolicy:
    """Takes old log-probabilities before the weights move."""

    policy: Policy
    forward: Callable[[Batch], tuple[Tensor, Tensor]]
    """The policy as prepared for training, with the current weights."""
    version: int
    """Of the current weights."""
    snapshots: Mapping[int, Mapping[str, Tensor]]
    """Version → kept weights."""
    micro_batch_tokens: int
    device: torch.device

    def is_current(self, source: OldPolicySource, examples: Sequence[Example]) -> bool:
        """Return whether the current weights are the old policy of every trained token."""
        if source == "recompute":
            return True
        return source == "snapshot" and self._versions(examples) <= {self.version}

    def logprobs(self, source: OldPolicySource, examples: Sequence[Example]) -> list[Tensor]:
        """Return for each example [S] log-probabilities of its loss tokens.

        Raise `RunError` if `snapshot` is asked for a version that is not kept. It gives 0 for replayed
        chunks, which this episode's policy did not sample.
        """
        if source == "behaviour":
            return [torch.tensor(behaviour_logprobs(each), device=self.device) for each in examples]
        if source == "recompute":
            return self._score(examples, self.forward)
        return self._snapshot(examples)

    def _snapshot(self, examples: Sequence[Example]) -> list[Tensor]:
        gone = self._versions(examples) - {self.version, *self.snapshots}
        if gone:
            raise RunError(
                f"old_policy = 'snapshot' needs the weights of policy version(s) {sorted(gone)}, but the training "
                f"backend keeps {sorted({self.version, *self.snapshots})}; raise its setting `snapshots` above the "
                "largest staleness, or let the algorithm use old_policy = 'recompute'"
            )
        old = [torch.zeros(each.loss_tokens, device=self.device) for each in examples]
        for version in sorted(self._versions(examples)):
            chosen = [index for index, each in enumerate(examples) if version in self._versions([each])]
            scores = self._score([examples[index] for index in chosen], self._scorer(version))
            for index, values in zip(chosen, scores, strict=True):
                own = _tokens_of_version(examples[index], version).to(self.device)
                old[index] = torch.where(own, values, old[index].to(values.dtype))
        return old

    def _scorer(self, version: int) -> Callable[[Batch], tuple[Tensor, Tensor]]:
        if version == self.version:
            return self.forward
        return lambda batch: self.policy.score_with(self.snapshots[version], batch)

    @torch.no_grad()
    def _score(self, examples: Sequence[Example], forward: Callable[[Batch], tuple[Tensor, Tensor]]) -> list[Tensor]:
        scores: dict[int, Tensor] = {}
        for batch in micro_batches(examples, tokens=self.micro_batch_tokens):
            values, _ = forward(collate(batch, device=self.device))
            parts = torch.split(values, [each.loss_tokens for each in batch])
            scores.update((id(example), part) for example, part in zip(batch, parts, strict=True))
        return [scores[id(example)] for example in examples]

    def _versions(self, examples: Sequence[Example]) -> set[int]:
        chunks = (each.trajectory.chunks[index] for each in examples for index in each.trained)
        return {chunk.policy_version for chunk in chunks if chunk.policy_version is not None}


def _tokens_of_version(example: Example, version: int) -> Tensor:
    """Return [S] bool: whether the policy of this version sampled the loss token."""
    own: list[bool] = []
    for position, span in enumerate(example.spans):
        trained = position < len(example.trained)
        index = (*example.trained, *example.imitated)[position]
        sampled = trained and example.trajectory.chunks[index].policy_version == version
        own.extend([sampled] * (span.end - span.start))
    return torch.tensor(own)
