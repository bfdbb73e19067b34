"""REINFORCE's loss in torch: -A log π. Knows neither groups nor optimizers. B rows, T tokens."""

from tumbler.contracts.batch import LossOutput, TokenBatch
from tumbler_algorithms.parts.correction import correct
from tumbler_algorithms.parts.token_loss import drift, minus_log_likelihood, total_loss
from tumbler_algorithms.parts.tokens import log_ratio, spread
from tumbler_algorithms.parts.trained import trained_tokens
from tumbler_algorithms.reinforce.settings import REINFORCESettings

__all__ = ["reinforce_loss"]


def reinforce_loss(batch: TokenBatch, settings: REINFORCESettings) -> LossOutput:
    """Return the loss of one micro-batch: L_t = -A log π_θ(t), plus the penalties that are asked for.

    It is the policy gradient where the policy still is the one that sampled; nothing corrects for later
    optimizer steps on the same trajectories. `parts.averages.normalise` says what total and denominator are.
    """
    correction = correct(trained_tokens(batch), settings.correction)
    batch = correction.batch
    advantage = spread(batch.chunk_credit, batch)
    moved = log_ratio(batch.policy_logprobs.detach(), batch.old_logprobs, batch)
    token_loss = minus_log_likelihood(advantage, batch)
    return total_loss(token_loss, correction, settings, prefix="reinforce/", pairs=drift(moved, batch))
