"""What Eq. 8 and 9 of arXiv 2512.24873 make of each chunk: ratio, mask, weight. Knows no normalisation.

Axes: B rows, T tokens, C trainable chunks.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tumbler.contracts.batch import TokenBatch
from tumbler_algorithms.ipa.settings import IPASettings
from tumbler_algorithms.parts.tokens import lengths_and_sums, mean_by_level

__all__ = ["ChunkWeights", "chunk_weights"]


@dataclass(frozen=True, kw_only=True)
class ChunkWeights:
    """What each chunk weighs; all are [C], and no field but `likelihood` carries a gradient."""

    length: Tensor
    """|c_k|, float64."""
    kept: Tensor
    """How many of these tokens the mask keeps, float64; the other fields but `mismatch` are over them."""
    likelihood: Tensor
    """Sum of log π_θ, float64."""
    ratio: Tensor
    """ρ_k, float64."""
    mismatch: Tensor
    """Geometric mean of π_old/μ over all of the chunk's tokens, float64."""
    keep: Tensor
    """m_k, bool; with a mask of tokens, whether any is left."""
    capped: Tensor
    """Whether the clip of w_k is at work, bool."""
    weight: Tensor
    """w_k m_k G_k, float64; exactly 0 for a masked chunk."""


def chunk_weights(batch: TokenBatch, trained: TokenBatch, settings: IPASettings) -> ChunkWeights:
    """Return ratio (Eq. 8), mask and weight (Eq. 9) of each chunk; `trained` is the batch without masked tokens.

    Staleness, π_θ/π_old, is what the ratio corrects; engine mismatch, π_old/μ, is what the mask is
    for. Chunks of trajectories with R > 0 keep their full weight; those of others lose weight as the
    policy moves away from them and never gain any (the asymmetry of TOPR). So do chunks whose credit is below 0
    although R is above: a partial reward without success, or what is left of one after a baseline.
    """
    old, behaviour = batch.old_logprobs.detach(), batch.behaviour_logprobs.detach()
    length, old_sum, behaviour_sum, likelihood = lengths_and_sums(batch, old, behaviour, batch.policy_logprobs)
    gap, kept = (old_sum - behaviour_sum).detach(), length
    if trained is not batch:
        kept, old_sum, likelihood = lengths_and_sums(trained, old, batch.policy_logprobs)
    keep = _keep(gap, kept, batch, settings)
    ratio = mean_by_level((likelihood - old_sum).detach(), kept, batch, "chunk").exp()
    failed = ~(batch.reward > 0)[batch.chunk_trajectory] | (batch.chunk_credit < 0)
    importance = torch.where(failed, ratio.clamp(0.0, 1.0), torch.ones_like(ratio))
    return ChunkWeights(
        length=length,
        kept=kept * keep,
        likelihood=likelihood,
        ratio=ratio,
        mismatch=mean_by_level(gap, length, batch, "chunk").exp(),
        keep=keep,
        capped=failed & keep & (ratio > 1.0),
        weight=torch.where(keep, importance * batch.chunk_credit.double(), torch.zeros_like(importance)),
    )


def _keep(gap: Tensor, length: Tensor, batch: TokenBatch, settings: IPASettings) -> Tensor:
    """Return the mask of chunks, m_k; [C] bool, given the sums of log π_old - log μ."""
    present = length > 0
    if settings.mask_level in ("none", "token"):
        return present
    means = mean_by_level(gap, length, batch, "trajectory" if settings.mask_level == "trajectory" else "chunk")
    return present & (means.exp() <= settings.mismatch_threshold)
