"""IPA's loss in torch: Eq. 8-10 of arXiv 2512.24873, on credited chunks. Knows neither groups nor optimizers.

Axes: B rows, T tokens, C trainable chunks, N trajectories. Sums over chunks are taken in float64: a
chunk's log-ratio is a small difference of long sums. No step depends on the data for its shape or
its course, so that `ipa_terms` compiles into one graph.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tumbler.contracts.batch import LossOutput, TokenBatch
from tumbler_algorithms.ipa.settings import IPASettings, Normalisation

__all__ = ["ChunkWeights", "LossTerms", "chunk_weights", "ipa_loss", "ipa_terms"]

_SAMPLES = 256
"""Chunks of one micro-batch whose ratio and mismatch are reported for histograms."""


@dataclass(frozen=True, kw_only=True)
class ChunkWeights:
    """What Eq. 8 and 9 make of each chunk; no field carries a gradient. All are [C]."""

    length: Tensor
    """|c_k|, float64."""
    ratio: Tensor
    """ρ_k, float64."""
    mismatch: Tensor
    """Geometric mean of π_old/μ over the chunk's tokens, float64."""
    keep: Tensor
    """m_k, bool."""
    capped: Tensor
    """Whether the clip of w_k is at work, bool."""
    weight: Tensor
    """w_k m_k G_k, float64; exactly 0 for a masked chunk."""


@dataclass(frozen=True, kw_only=True)
class LossTerms:
    """The loss before anything leaves the device. All are [] but those of `chunks`."""

    total: Tensor
    """Carries the gradient."""
    denominator: Tensor
    kl: Tensor
    """Sum over the chunks' tokens of an estimate of KL(π_old‖π_θ)."""
    imitation: Tensor
    """Negative log-likelihood of the imitated tokens, summed."""
    imitated: Tensor
    """How many tokens that are."""
    chunks: ChunkWeights


def ipa_loss(batch: TokenBatch, settings: IPASettings) -> LossOutput:
    """Return the loss of one micro-batch.

    With A_k = w_k m_k G_k and L_k = -A_k Σ_{t∈c_k} log π_θ(t), total and denominator are

    - `sum`: Σ_k L_k over N, all trajectories of the batch, masked or not (Eq. 9, averaged);
    - `chunk-mean`: Σ_k L_k / |c_k| over Σ_k m_k;
    - `trajectory-mean`: Σ_n Σ_{k∈n} L_k / T_n over the number of n with T_n > 0, T_n = Σ_{k∈n} m_k |c_k|;
    - `token-mean`: Σ_k L_k over Σ_k m_k |c_k|.

    λ_RL times this and λ_IL times the imitated tokens' negative log-likelihood make the total
    (Eq. 10). Each part is a sum over trajectories, so any split of a batch adds up to the whole.
    """
    terms = ipa_terms(batch, settings)
    stride = -(-terms.chunks.length.shape[0] // _SAMPLES) or 1
    return LossOutput(
        total=terms.total,
        denominator=float(terms.denominator),
        metrics=_metrics(terms),
        samples={
            "ipa/chunk_ratio": terms.chunks.ratio[::stride].tolist(),
            "ipa/chunk_mismatch": terms.chunks.mismatch[::stride].tolist(),
        },
    )


def ipa_terms(batch: TokenBatch, settings: IPASettings) -> LossTerms:
    """Return the loss of one micro-batch as tensors."""
    chunks = chunk_weights(batch, settings.mismatch_threshold)
    scale, denominator = _normalise(batch, chunks, settings.normalisation)
    coefficient = _spread(chunks.weight * scale, batch)
    # Where the coefficient is 0 the log-probability may be anything, NaN included: 0 times it need not be 0.
    policy = batch.policy_logprobs.masked_fill(coefficient == 0, 0.0)
    rl = -(coefficient * policy).sum()
    imitation = -batch.policy_logprobs.masked_fill(~batch.imitation_mask, 0.0).sum(dtype=torch.float64)
    total = settings.rl_weight * rl
    if settings.imitation_weight > 0:
        total = total + settings.imitation_weight * imitation
    moved = _inside(batch.policy_logprobs.detach() - batch.old_logprobs.detach(), batch)
    return LossTerms(
        total=total,
        denominator=denominator,
        kl=(moved.exp() - 1 - moved).sum(),
        imitation=imitation.detach(),
        imitated=batch.imitation_mask.sum(),
        chunks=chunks,
    )


def chunk_weights(batch: TokenBatch, threshold: float) -> ChunkWeights:
    """Return ratio (Eq. 8), mask and weight (Eq. 9) of each chunk.

    Staleness, π_θ/π_old, is what the ratio corrects; engine mismatch, π_old/μ, is what the mask is
    for. Chunks of trajectories with R > 0 keep their full weight; those of others lose weight as the
    policy moves away from them and never gain any (the asymmetry of TOPR).
    """
    policy, old = batch.policy_logprobs.detach(), batch.old_logprobs.detach()
    length = _sum_by_chunk(torch.ones_like(policy), batch)
    ratio = _chunk_ratio(policy - old, length, batch)
    mismatch = _chunk_ratio(old - batch.behaviour_logprobs.detach(), length, batch)
    keep = (mismatch <= threshold) & (length > 0)
    failed = ~(batch.reward > 0)[batch.chunk_trajectory]
    importance = torch.where(failed, ratio.clamp(0.0, 1.0), torch.ones_like(ratio))
    return ChunkWeights(
        length=length,
        ratio=ratio,
        mismatch=mismatch,
        keep=keep,
        capped=failed & keep & (ratio > 1.0),
        weight=torch.where(keep, importance * batch.chunk_credit.double(), torch.zeros_like(importance)),
    )


def _normalise(batch: TokenBatch, chunks: ChunkWeights, normalisation: Normalisation) -> tuple[Tensor, Tensor]:
    """Return what each chunk's loss is multiplied by, [C], and the denominator, []."""
    every = torch.ones_like(chunks.length)
    kept_tokens = chunks.length * chunks.keep
    if normalisation == "sum":
        return every, every.new_tensor(batch.reward.shape[0])
    if normalisation == "chunk-mean":
        return 1.0 / chunks.length.clamp(min=1.0), chunks.keep.sum()
    if normalisation == "token-mean":
        return every, kept_tokens.sum()
    per_trajectory = every.new_zeros(batch.reward.shape[0]).index_add(0, batch.chunk_trajectory, kept_tokens)
    return 1.0 / per_trajectory.clamp(min=1.0)[batch.chunk_trajectory], (per_trajectory > 0).sum()


def _chunk_ratio(log_ratio: Tensor, length: Tensor, batch: TokenBatch) -> Tensor:
    """Return the geometric mean over each chunk of a ratio given by its logarithm; [B, T] to [C]."""
    return (_sum_by_chunk(log_ratio, batch) / length.clamp(min=1.0)).exp()


def _sum_by_chunk(values: Tensor, batch: TokenBatch) -> Tensor:
    """Return the sum over each chunk's tokens in float64; [B, T] to [C]."""
    chunks = batch.chunk_credit.shape[0]
    sums = torch.zeros(chunks + 1, dtype=torch.float64, device=values.device)
    return sums.index_add(0, _slot(batch).flatten(), _inside(values, batch).flatten())[:chunks]


def _spread(per_chunk: Tensor, batch: TokenBatch) -> Tensor:
    """Return each token's share of a value per chunk, 0 outside of chunks; [C] to [B, T]."""
    return torch.cat([per_chunk, per_chunk.new_zeros(1)])[_slot(batch)]


def _inside(values: Tensor, batch: TokenBatch) -> Tensor:
    """Return the values in float64, 0 outside of chunks whatever stood there; [B, T]."""
    return values.double().masked_fill(batch.chunk_of_token < 0, 0.0)


def _slot(batch: TokenBatch) -> Tensor:
    """Return each token's chunk; tokens outside of chunks go to a slot past the last one; [B, T] int64."""
    return batch.chunk_of_token.masked_fill(batch.chunk_of_token < 0, batch.chunk_credit.shape[0])


def _metrics(terms: LossTerms) -> dict[str, tuple[float, float]]:
    """Return (sum, count) pairs; a metric without anything to count is left out."""
    chunks = terms.chunks
    present = chunks.length > 0
    count, tokens = present.sum(), chunks.length.sum()
    pairs = {
        "ipa/mask_share": ((present & ~chunks.keep).sum(), count),
        "ipa/ratio_mean": (chunks.ratio[present].sum(), count),
        "ipa/ratio_clipped_share": (chunks.capped.sum(), count),
        "ipa/mismatch_mean": (chunks.mismatch[present].sum(), count),
        "ipa/kl": (terms.kl, tokens),
        "ipa/imitation_nll": (terms.imitation, terms.imitated),
    }
    # One transfer for all of them: on a GPU each costs a synchronisation.
    numbers = torch.stack([part.double() for pair in pairs.values() for part in pair]).tolist()
    sums_and_counts = zip(pairs, numbers[::2], numbers[1::2], strict=True)
    return {name: (value, number) for name, value, number in sums_and_counts if number > 0}
