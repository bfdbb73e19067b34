"""Log-probabilities of the policy that sampled, as the training engine sees them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tumbler.contracts.batch import OldPolicySource
from tumbler.errors import RunError
from tumbler_backends.training.torch.collate import behaviour_logprobs
from tumbler_backends.training.torch.layout import Example
from tumbler_backends.training.torch.scoring import PerExample, Scorer

__all__ = ["OldPolicy"]


@dataclass(frozen=True, kw_only=True)
class OldPolicy:
    """Takes old log-probabilities before the weights move."""

    scorer: Scorer
    version: int
    """Of the current weights."""
    snapshots: Mapping[int, Mapping[str, Tensor]]
    """Version → kept weights."""

    def is_current(self, source: OldPolicySource, examples: Sequence[Example]) -> bool:
        """Return whether the current weights are the old policy of every trained token."""
        if source == "recompute":
            return True
        return source == "snapshot" and self._versions(examples) <= {self.version}

    def logprobs(self, source: OldPolicySource, examples: Sequence[Example]) -> PerExample:
        """Return the loss tokens' log-probabilities from a source that is not the current weights.

        Raise `RunError` if `snapshot` is asked for a version that is not kept. It gives 0 for replayed
        chunks, which this episode's policy did not sample.
        """
        if source == "behaviour":
            return {id(each): torch.tensor(behaviour_logprobs(each), device=self.scorer.device) for each in examples}
        return self._snapshot(examples)

    def _snapshot(self, examples: Sequence[Example]) -> PerExample:
        gone = self._versions(examples) - {self.version, *self.snapshots}
        if gone:
            raise RunError(
                f"old_policy = 'snapshot' needs the weights of policy version(s) {sorted(gone)}, but the training "
                f"backend keeps {sorted({self.version, *self.snapshots})}; raise its setting `snapshots` above the "
                "largest staleness, or let the algorithm use old_policy = 'recompute'"
            )
        old = {id(each): torch.zeros(each.loss_tokens, device=self.scorer.device) for each in examples}
        for version in sorted(self._versions(examples)):
            chosen = [each for each in examples if version in self._versions([each])]
            scores = self.scorer.logprobs(chosen, None if version == self.version else self.snapshots[version])
            for each in chosen:
                own, values = _tokens_of_version(each, version).to(self.scorer.device), scores[id(each)]
                old[id(each)] = torch.where(own, values, old[id(each)].to(values.dtype))
        return old

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
