"""The imitation term of Eq. 10 of arXiv 2512.24873, on replayed expert chunks. E replayed chunks."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tumbler.contracts.batch import TokenBatch
from tumbler_algorithms.ipa.chunks import ChunkWeights
from tumbler_algorithms.ipa.settings import IPASettings
from tumbler_algorithms.parts.averages import normalise, units
from tumbler_algorithms.parts.tokens import by_trajectory, lengths_and_sums, sum_by_trajectory, total

__all__ = ["Imitation", "imitation"]

_TRACE = 2.0**-40
"""Share of its units by which a wholly masked trajectory counts. A power of two, so that sums of them are exact."""


@dataclass(frozen=True, kw_only=True)
class Imitation:
    """The negative log-likelihood of the imitated tokens. All are []."""

    loss: Tensor
    """Weighted and scaled, before λ_IL; carries the gradient."""
    nll: Tensor
    """Of all tokens, each counted once; no gradient."""
    tokens: Tensor
    denominator: Tensor
    """What is added to that of the RL term, float64: next to nothing, so that it decides only where the mask left
    nothing else."""


def imitation(batch: TokenBatch, settings: IPASettings, chunks: ChunkWeights) -> Imitation:
    """Return Σ_n u_n/a_n Σ_{e∈n} v_e s_e Σ_{t∈e} -log π_θ(t).

    v_e is what `credit` gave the replayed chunk and s_e what `normalise` gives it, with the replayed chunks in
    place of the trained ones. u_n is what trajectory n adds to the denominator of the RL term, and a_n what it would
    add without the mask: so the term is the mean of what imitation is worth for each unmasked unit, weighed by
    what is left of it, and a mask that takes an equal share of each trajectory changes nothing. Where the backend
    does not tell replayed chunks apart, all of these are 1.
    """
    replayed = _replayed(batch)
    if replayed is None:
        nll = -total(batch.policy_logprobs.masked_fill(~batch.imitation_mask, 0.0))
        tokens = batch.imitation_mask.sum()
        return Imitation(loss=nll, nll=nll.detach(), tokens=tokens, denominator=torch.zeros_like(nll))
    if not replayed.chunk_credit.shape[0]:
        nothing = torch.zeros((), dtype=torch.float64, device=batch.policy_logprobs.device)
        return Imitation(loss=nothing, nll=nothing, tokens=nothing, denominator=nothing)
    length, likelihood = lengths_and_sums(replayed, batch.policy_logprobs)
    scale, _ = normalise(replayed, settings.normalisation, length=length, constant=settings.constant_length)
    left, more = _units_left(batch, replayed, settings, chunks, length * (replayed.chunk_credit > 0))
    weight = replayed.chunk_credit.double() * scale * by_trajectory(left, replayed)
    return Imitation(
        loss=-(weight * likelihood.masked_fill(weight == 0, 0.0)).sum(),
        nll=-likelihood.detach().sum(),
        tokens=length.sum(),
        denominator=more,
    )


def _units_left(
    batch: TokenBatch, replayed: TokenBatch, settings: IPASettings, chunks: ChunkWeights, imitated: Tensor
) -> tuple[Tensor, Tensor]:
    """Return u_n/a_n, [N], and what the trajectories that imitate add to the denominator, [].

    A wholly masked one counts by a trace, and so vanishes beside others; one that RL has no chunk of counts like
    it, by the units of what it imitates, `imitated` being their tokens.
    """
    kept = units(batch, settings.normalisation, chunks.kept)
    every = units(batch, settings.normalisation, chunks.length)
    every = torch.where(every > 0, every, units(replayed, settings.normalisation, imitated))
    trace = _TRACE * every * (sum_by_trajectory(imitated, replayed) > 0)
    counted = torch.maximum(kept, trace)
    return counted / every.clamp(min=1.0), (counted - kept).sum()


def _replayed(batch: TokenBatch) -> TokenBatch | None:
    """Return the batch with its replayed chunks in place of its trained ones; None if it does not tell them apart."""
    of_token, credit = batch.imitation_chunk_of_token, batch.imitation_credit
    trajectory, position = batch.imitation_trajectory, batch.imitation_position
    if of_token is None or credit is None or trajectory is None or position is None:
        return None
    return replace(
        batch, chunk_of_token=of_token, chunk_credit=credit, chunk_trajectory=trajectory, chunk_position=position
    )
