"""PPO's loss in torch: clipped policy ratios and clipped values. Knows neither groups nor optimizers.

Axes: B rows, T tokens, C trainable chunks, N trajectories.
"""

import torch
from torch import Tensor

from tumbler.contracts.batch import LossOutput, TokenBatch
from tumbler.errors import ContractError
from tumbler_algorithms.parts.clipping import clipped_surrogate
from tumbler_algorithms.parts.correction import correct
from tumbler_algorithms.parts.token_loss import drift, total_loss
from tumbler_algorithms.parts.tokens import count, inside, log_ratio
from tumbler_algorithms.parts.trained import trained_tokens
from tumbler_algorithms.ppo.advantages import generalised_advantages
from tumbler_algorithms.ppo.settings import PPOSettings

__all__ = ["ppo_loss"]


def ppo_loss(batch: TokenBatch, settings: PPOSettings) -> LossOutput:
    """Return the loss of one micro-batch (arXiv 1707.06347, Eq. 7 and 9).

    L_t = -min(ρ_t A_t, clip(ρ_t, 1 - clip_low, 1 + clip_high) A_t) + value_weight · E_t, with A_t and the
    return that E_t compares with taken from the values before the first optimizer step.

    Raises:
        ContractError: the batch has no values.
    """
    batch = trained_tokens(batch)
    values, old_values = _values(batch)
    # Before anything is masked: a reward on a masked token counts for those before it.
    advantage, returns = generalised_advantages(batch, old_values, gamma=settings.gamma, lambda_=settings.gae_lambda)
    correction = correct(batch, settings.correction)
    batch = correction.batch
    moved = log_ratio(batch.policy_logprobs, batch.old_logprobs.detach(), batch)
    surrogate, held = clipped_surrogate(
        moved,
        advantage.masked_fill(~inside(batch), 0.0),
        low=settings.clip_low,
        high=settings.clip_high,
        dual=settings.dual_clip,
    )
    error = _value_error(values, old_values, returns, settings.value_clip).masked_fill(~inside(batch), 0.0)
    tokens = count(batch)
    pairs = {
        **drift(moved, batch),
        "clipped_share": (held.sum(), tokens),
        "value_error": (error.detach().sum(), tokens),
        "return_mean": (returns.masked_fill(~inside(batch), 0.0).sum(), tokens),
    }
    return total_loss(settings.value_weight * error - surrogate, correction, settings, prefix="ppo/", pairs=pairs)


def _values(batch: TokenBatch) -> tuple[Tensor, Tensor]:
    """Return values and old values, 0 outside of chunks whatever stood there; both [B, T]."""
    if batch.values is None or batch.old_values is None:
        raise ContractError(
            "TokenBatch.values or TokenBatch.old_values is None, but PPO needs both: train with a backend that "
            "trains a value head when UpdateRule.values is set, or choose an algorithm without one, such as grpo"
        )
    outside = ~inside(batch)
    return batch.values.masked_fill(outside, 0.0), batch.old_values.detach().masked_fill(outside, 0.0)


def _value_error(values: Tensor, old_values: Tensor, returns: Tensor, bound: float | None) -> Tensor:
    """Return (V - G)² of each token, or the greater one of it and the bounded value's; [B, T] with gradient."""
    error = (values - returns) ** 2
    if bound is None:
        return error
    bounded = old_values + (values - old_values).clamp(-bound, bound)
    return torch.maximum(error, (bounded - returns) ** 2)
