"""GRPO's loss in torch: the PPO clip on token ratios, weighted by advantages. Knows neither groups nor optimizers.

Axes: B rows, T tokens, C trainable chunks, N trajectories. Sums are taken in float64.
"""

import torch
from torch import Tensor

from tumbler.contracts.batch import LossOutput, TokenBatch
from tumbler_algorithms.grpo.settings import GRPOSettings

__all__ = ["grpo_loss"]


def grpo_loss(batch: TokenBatch, settings: GRPOSettings) -> LossOutput:
    """Return the loss of one micro-batch.

    With ρ_t = π_θ/π_old, L_t = -min(ρ_t A, clip(ρ_t, 1 - clip_low, 1 + clip_high) A), plus the weighted
    KL estimate of the token where one is asked for, total and denominator are, over trained tokens,

    - `trajectory-mean`: Σ_n Σ_{t∈n} L_t / T_n over the number of trajectories with T_n > 0 tokens;
    - `token-mean`: Σ_t L_t over the number of tokens (DAPO);
    - `constant`: Σ_t L_t / constant_length over N, all trajectories of the batch (Dr. GRPO).

    Each part is a sum over trajectories, so any split of a batch adds up to the whole.
    """
    inside = batch.chunk_of_token >= 0
    chunks = batch.chunk_credit.shape[0]
    slot = batch.chunk_of_token.masked_fill(~inside, chunks)
    advantage = torch.cat([batch.chunk_credit.double(), batch.chunk_credit.new_zeros(1, dtype=torch.float64)])[slot]
    # Masked before any arithmetic: 0 times what stands elsewhere, NaN or infinity, would not be 0.
    log_ratio = (batch.policy_logprobs.double() - batch.old_logprobs.detach().double()).masked_fill(~inside, 0.0)
    scale, denominator = _normalise(batch, slot, settings)
    surrogate, clipped = _clipped_surrogate(log_ratio, advantage, settings)
    divergence = log_ratio.exp() - 1 - log_ratio
    total = -(surrogate * scale).sum()
    if settings.kl_weight > 0:
        total = total + settings.kl_weight * (divergence * scale).sum()
    return LossOutput(
        total=total,
        denominator=float(denominator),
        metrics=_metrics(log_ratio.detach(), divergence.detach(), clipped, inside),
    )


def _clipped_surrogate(log_ratio: Tensor, advantage: Tensor, settings: GRPOSettings) -> tuple[Tensor, Tensor]:
    """Return min(ρA, clip(ρ)A) and where the clip holds; both [B, T].

    Tokens without an advantage drop out before the exponential, so that none can overflow into NaN.
    """
    ratio = log_ratio.masked_fill(advantage == 0, 0.0).exp()
    free = ratio * advantage
    bound = ratio.clamp(1.0 - settings.clip_low, 1.0 + settings.clip_high) * advantage
    return torch.minimum(free, bound), bound < free


def _normalise(batch: TokenBatch, slot: Tensor, settings: GRPOSettings) -> tuple[Tensor, Tensor]:
    """Return what each token's loss is multiplied by, [B, T] or [], and the denominator, []."""
    chunks, trajectories = batch.chunk_credit.shape[0], batch.reward.shape[0]
    lengths = torch.bincount(slot.flatten(), minlength=chunks + 1)[:chunks].double()
    one = lengths.new_ones(())
    if settings.constant_length is not None:
        return one / settings.constant_length, one * trajectories
    if settings.normalisation == "token-mean":
        return one, lengths.sum()
    per_trajectory = lengths.new_zeros(trajectories).index_add(0, batch.chunk_trajectory, lengths)
    share = 1.0 / per_trajectory.clamp(min=1.0)[batch.chunk_trajectory]
    return torch.cat([share, share.new_zeros(1)])[slot], (per_trajectory > 0).sum()


def _metrics(log_ratio: Tensor, divergence: Tensor, clipped: Tensor, inside: Tensor) -> dict[str, tuple[float, float]]:
    """Return (sum, count) pairs over the trained tokens; none if there are none."""
    sums = [inside.sum().double(), (log_ratio.exp() * inside).sum(), clipped.sum().double(), divergence.sum()]
    # One transfer for all of them: on a GPU each costs a synchronisation.
    tokens, ratio, held, kl = torch.stack(sums).tolist()
    if tokens == 0:
        return {}
    return {"grpo/ratio_mean": (ratio, tokens), "grpo/clipped_share": (held, tokens), "grpo/kl": (kl, tokens)}
