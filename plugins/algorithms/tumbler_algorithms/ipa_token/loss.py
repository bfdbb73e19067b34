"""Token-level IPA's loss in torch: Eq. 7-9 of arXiv 2512.24873 for tokens. Knows neither groups nor optimizers.

Axes: B rows, T tokens, C trainable chunks, N trajectories.
"""

from dataclasses import replace

import torch

from tumbler.contracts.batch import LossOutput, TokenBatch
from tumbler_algorithms.ipa_token.settings import TokenIPASettings
from tumbler_algorithms.parts.correction import correct
from tumbler_algorithms.parts.sequences import discounted_sums, token_line
from tumbler_algorithms.parts.settings import CorrectionSettings
from tumbler_algorithms.parts.token_loss import drift, minus_log_likelihood, total_loss
from tumbler_algorithms.parts.tokens import count, log_ratio, spread
from tumbler_algorithms.parts.trained import trained_tokens

__all__ = ["token_ipa_loss"]


def token_ipa_loss(batch: TokenBatch, settings: TokenIPASettings) -> LossOutput:
    """Return the loss of one micro-batch.

    L_t = -sg(w_t) m_t G_t log π_θ(t), where G_t = γ^{T-t} R over the trained tokens 1..T of the whole
    trajectory (a reward within it is discounted from its own chunk's last token), w_t = 1 if the final
    reward is positive and G_t not negative, else clip(π_θ/π_old, 0, 1), and m_t = 1[π_old/μ ≤ H].
    """
    batch = trained_tokens(batch)
    # Before anything is masked: a reward on a masked token counts for those before it.
    line = token_line(batch)
    returns = line.put(discounted_sums(line.at_chunk_ends(batch.chunk_credit), line, settings.gamma), batch)
    correction = correct(batch, settings.correction)
    masked = correct(correction.batch, CorrectionSettings(mask="token", high=settings.mismatch_threshold))
    left = replace(correction, batch=masked.batch)
    batch = left.batch
    moved = log_ratio(batch.policy_logprobs.detach(), batch.old_logprobs, batch)
    ratio = moved.exp()
    failed = spread(~(batch.reward > 0)[batch.chunk_trajectory], batch) | (returns < 0)
    weight = torch.where(failed, ratio.clamp(max=1.0), 1.0) * returns
    pairs = {
        **drift(moved, batch),
        "capped_share": ((failed & (ratio > 1.0)).sum(), count(batch)),
        "token_mask_share": masked.pairs["mask_share"],
    }
    return total_loss(minus_log_likelihood(weight, batch), left, settings, prefix="ipa-token/", pairs=pairs)
