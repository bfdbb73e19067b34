"""GRPO that also notes how far the two engines' log-probabilities are apart; trains as GRPO does."""

from waiting_plugin import told

from tumbler.contracts.batch import LossOutput, TokenBatch
from tumbler_algorithms.grpo.algorithm import GRPO

__all__ = ["WatchedGRPO"]


class WatchedGRPO(GRPO):
    """See `GRPO`."""

    def loss(self, batch: TokenBatch) -> LossOutput:
        """Return GRPO's loss."""
        trained = batch.chunk_of_token >= 0
        apart = (batch.policy_logprobs.detach() - batch.behaviour_logprobs)[trained].abs().max()
        told.difference = max(told.difference or 0.0, float(apart))
        return super().loss(batch)
