"""What a loss per token is averaged over. Knows no algorithm. B rows, T tokens, C chunks, N trajectories."""

import torch
from torch import Tensor

from tumbler.contracts.batch import TokenBatch
from tumbler_algorithms.parts.objective import Normalisation
from tumbler_algorithms.parts.tokens import by_trajectory, lengths, sum_by_trajectory
from tumbler_algorithms.parts.trained import whole

__all__ = ["normalise", "units"]


def normalise(
    batch: TokenBatch,
    kind: Normalisation,
    *,
    keep: Tensor | None = None,
    length: Tensor | None = None,
    constant: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return what each chunk's token losses are multiplied by, [C] or [] where all are alike, and the denominator, [].

    With L_t the loss of a token, T_n = Σ_{k∈n} m_k |c_k| and m_k = `keep`, total over denominator is

    - `sum`: Σ L_t over N, all trajectories of the batch;
    - `chunk-mean`: Σ_k Σ_{t∈k} L_t / |c_k| over Σ_k m_k;
    - `trajectory-mean`: Σ_n Σ_{t∈n} L_t / T_n over the number of n with T_n > 0;
    - `token-mean`: Σ L_t over Σ_k m_k |c_k| (DAPO, arXiv 2503.14476);
    - `constant`: Σ L_t / `constant` over N (Dr. GRPO, arXiv 2503.20783).

    Each part is a sum over trajectories, so any split of a batch adds up to the whole. Both are float64.

    Args:
        batch: the tokens.
        kind: what to average over.
        keep: [C] which chunks count; None counts all that have a token.
        length: [C] float64 |c_k|, if it is known already, or where tokens are left out; None counts the tokens.
        constant: tokens that stand for every trajectory's length, with `constant` alone.
    """
    alike = kind in ("sum", "token-mean", "constant")
    if alike and length is None and keep is None and whole(batch):
        counted = batch.chunk_of_token.numel() if kind == "token-mean" else batch.reward.shape[0]
        each = 1.0 / (constant or 1) if kind == "constant" else 1.0
        both = torch.tensor([each, counted], dtype=torch.float64, device=batch.reward.device)
        return both[0], both[1]
    length = lengths(batch) if length is None else length
    length = length if keep is None else length * keep
    denominator = units(batch, kind, length).sum()
    one = torch.ones_like(length)
    if kind == "constant":
        return one / (constant or 1), denominator
    if kind == "chunk-mean":
        return 1.0 / length.clamp(min=1.0), denominator
    if kind == "trajectory-mean":
        per_trajectory = sum_by_trajectory(length, batch)
        return 1.0 / by_trajectory(per_trajectory.clamp(min=1.0), batch), denominator
    return one, denominator


def units(batch: TokenBatch, kind: Normalisation, length: Tensor) -> Tensor:
    """Return what each trajectory adds to the denominator, [N] float64, given the tokens that count, [C] float64."""
    if kind in ("sum", "constant"):
        return length.new_ones(batch.reward.shape[0])
    if kind == "chunk-mean":
        return sum_by_trajectory(length > 0, batch)
    per_trajectory = sum_by_trajectory(length, batch)
    return per_trajectory if kind == "token-mean" else (per_trajectory > 0).double()
