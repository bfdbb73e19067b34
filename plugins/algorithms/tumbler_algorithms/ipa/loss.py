"""IPA's loss in torch: Eq. 8-10 of arXiv 2512.24873, on credited chunks. Knows neither groups nor optimizers.

Axes: B rows, T tokens, C trainable chunks, N trajectories. Sums over chunks are taken in float64: a
chunk's log-ratio is a small difference of long sums. No step depends on the data for its shape or
its course, so that `ipa_terms` compiles into one graph.
"""

from dataclasses import dataclass

from torch import Tensor

from tumbler.contracts.batch import LossOutput, TokenBatch
from tumbler_algorithms.ipa.chunks import ChunkWeights, chunk_weights
from tumbler_algorithms.ipa.imitation import imitation
from tumbler_algorithms.ipa.settings import IPASettings
from tumbler_algorithms.parts.averages import normalise
from tumbler_algorithms.parts.correction import out_of_bounds, token_gaps, without_tokens
from tumbler_algorithms.parts.metrics import Pairs, report
from tumbler_algorithms.parts.regularise import regularise, total_divergence
from tumbler_algorithms.parts.tokens import spread, sum_by_chunk

__all__ = ["LossTerms", "ipa_loss", "ipa_terms"]

_SAMPLES = 256
"""Chunks of one micro-batch whose ratio and mismatch are reported for histograms."""


@dataclass(frozen=True, kw_only=True)
class LossTerms:
    """The loss before anything leaves the device."""

    total: Tensor
    """[] with gradient."""
    denominator: Tensor
    """[]."""
    pairs: Pairs
    chunks: ChunkWeights


def ipa_loss(batch: TokenBatch, settings: IPASettings) -> LossOutput:
    """Return the loss of one micro-batch.

    With A_k = w_k m_k G_k, each token of c_k has L_t = -A_k log π_θ(t) (Eq. 9). `parts.averages.normalise`
    says what becomes of them in each normalisation; only what the mask keeps counts there. λ_RL times this,
    λ_IL times the imitation term (Eq. 10) and the penalties, normalised like L_t, make the total.
    Each part is a sum over trajectories, so any split of a batch adds up to the whole.

    Raises:
        ContractError: the batch lacks log-probabilities or entropies that the settings ask for.
    """
    terms = ipa_terms(batch, settings)
    stride = -(-terms.chunks.length.shape[0] // _SAMPLES) or 1
    return LossOutput(
        total=terms.total,
        denominator=float(terms.denominator),
        metrics=report(terms.pairs, prefix="ipa/"),
        samples={
            "ipa/chunk_ratio": terms.chunks.ratio[::stride].tolist(),
            "ipa/chunk_mismatch": terms.chunks.mismatch[::stride].tolist(),
        },
    )


def ipa_terms(batch: TokenBatch, settings: IPASettings) -> LossTerms:
    """Return the loss of one micro-batch as tensors."""
    trained = _without_masked_tokens(batch, settings)
    chunks = chunk_weights(batch, trained, settings)
    scale, denominator = normalise(
        batch, settings.normalisation, keep=chunks.keep, length=chunks.kept, constant=settings.constant_length
    )
    weight = chunks.weight * scale
    # Where the weight is 0 the log-probability may be anything, NaN included: 0 times it need not be 0.
    total = -settings.rl_weight * (weight * chunks.likelihood.masked_fill(weight == 0, 0.0)).sum()
    pairs = _pairs(batch, chunks)
    if settings.kl_weight > 0 or settings.entropy_weight > 0:
        unmasked = without_tokens(trained, spread(~chunks.keep, trained))
        penalty = regularise(unmasked, settings)
        total = total + (sum_by_chunk(penalty.loss, unmasked) * scale).sum()
        pairs |= {f"penalty_{name}": pair for name, pair in penalty.pairs.items()}
    imitated = imitation(batch, settings, chunks)
    if settings.imitation_weight > 0:
        total = total + settings.imitation_weight * imitated.loss
        denominator = denominator + imitated.denominator
    pairs["imitation_nll"] = (imitated.nll, imitated.tokens)
    return LossTerms(total=total, denominator=denominator, pairs=pairs, chunks=chunks)


def _without_masked_tokens(batch: TokenBatch, settings: IPASettings) -> TokenBatch:
    if settings.mask_level != "token":
        return batch
    return without_tokens(batch, out_of_bounds(token_gaps(batch, "token"), 0.0, settings.mismatch_threshold))


def _pairs(batch: TokenBatch, chunks: ChunkWeights) -> dict[str, tuple[Tensor, Tensor]]:
    present = chunks.length > 0
    count, tokens = present.sum(), chunks.length.sum()
    return {
        "mask_share": ((present & ~chunks.keep).sum(), count),
        "mask_token_share": (tokens - chunks.kept.sum(), tokens),
        "ratio_mean": (chunks.ratio.masked_fill(~present, 0.0).sum(), count),
        "ratio_clipped_share": (chunks.capped.sum(), count),
        "mismatch_mean": (chunks.mismatch.masked_fill(~present, 0.0).sum(), count),
        "kl": (total_divergence(batch), tokens),
    }
