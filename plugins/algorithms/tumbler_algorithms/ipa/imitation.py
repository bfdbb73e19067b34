"""The imitation term of Eq. 10 of arXiv 2512.24873, on replayed expert chunks. E replayed chunks."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tumbler.contracts.batch import TokenBatch
from tumbler_algorithms.ipa.settings import IPASettings
from tumbler_algorithms.parts.averages import normalise
from tumbler_algorithms.parts.tokens import lengths_and_sums, total

__all__ = ["Imitation", "imitation"]


@dataclass(frozen=True, kw_only=True)
class Imitation:
    """The negative log-likelihood of the imitated tokens. All are []."""

    loss: Tensor
    """Weighted and scaled, before λ_IL; carries the gradient."""
    nll: Tensor
    """Of all tokens, each counted once; no gradient."""
    tokens: Tensor


def imitation(batch: TokenBatch, settings: IPASettings) -> Imitation:
    """Return Σ_e v_e s_e Σ_{t∈e} -log π_θ(t).

    v_e is what `credit` gave the replayed chunk and s_e what `normalise` gives it, with the replayed chunks in
    place of the trained ones. Where the backend does not tell replayed chunks apart, both are 1.
    """
    replayed = _replayed(batch)
    if replayed is None:
        nll = -total(batch.policy_logprobs.masked_fill(~batch.imitation_mask, 0.0))
        return Imitation(loss=nll, nll=nll.detach(), tokens=batch.imitation_mask.sum())
    if not replayed.chunk_credit.shape[0]:
        nothing = torch.zeros((), dtype=torch.float64, device=batch.policy_logprobs.device)
        return Imitation(loss=nothing, nll=nothing, tokens=nothing)
    length, likelihood = lengths_and_sums(replayed, batch.policy_logprobs)
    scale, _ = normalise(replayed, settings.normalisation, length=length, constant=settings.constant_length)
    weight = replayed.chunk_credit.double() * scale
    return Imitation(
        loss=-(weight * likelihood.masked_fill(weight == 0, 0.0)).sum(),
        nll=-likelihood.detach().sum(),
        tokens=length.sum(),
    )


def _replayed(batch: TokenBatch) -> TokenBatch | None:
    """Return the batch with its replayed chunks in place of its trained ones; None if it does not tell them apart."""
    of_token, credit = batch.imitation_chunk_of_token, batch.imitation_credit
    trajectory, position = batch.imitation_trajectory, batch.imitation_position
    if of_token is None or credit is None or trajectory is None or position is None:
        return None
    return replace(
        batch, chunk_of_token=of_token, chunk_credit=credit, chunk_trajectory=trajectory, chunk_position=position
    )
