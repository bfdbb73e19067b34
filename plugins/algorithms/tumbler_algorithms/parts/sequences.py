"""Trajectories as one line of tokens each, across chunks and segments. B rows, T tokens, S trained tokens, C chunks."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tumbler.contracts.batch import TokenBatch

__all__ = ["TokenLine", "discounted_sums", "token_line"]


@dataclass(frozen=True, kw_only=True)
class TokenLine:
    """The trained tokens of a batch, trajectory after trajectory, each in the order in which it was sampled."""

    position: Tensor
    """[S] int64: row · T + column of each token."""
    chunk: Tensor
    """[S] int64: the token's chunk."""
    ends_chunk: Tensor
    """[S] bool: whether the token is its chunk's last."""
    ends_trajectory: Tensor
    """[S] bool: whether the token is its trajectory's last."""

    def take(self, values: Tensor) -> Tensor:
        """Return the line's values in float64; [B, T] to [S]."""
        return values.flatten()[self.position].double()

    def put(self, values: Tensor, batch: TokenBatch) -> Tensor:
        """Return the values where their tokens are, 0 elsewhere, in the batch's precision; [S] to [B, T]."""
        everywhere = torch.zeros_like(batch.policy_logprobs).flatten()
        return everywhere.scatter(0, self.position, values.to(everywhere.dtype)).view(batch.policy_logprobs.shape)

    def following(self, values: Tensor) -> Tensor:
        """Return the value of the next token of the same trajectory, 0 after the last; [S] to [S]."""
        shifted = torch.cat([values[1:], values.new_zeros(min(1, len(values)))])
        return shifted.masked_fill(self.ends_trajectory, 0.0)

    def at_chunk_ends(self, per_chunk: Tensor) -> Tensor:
        """Return each chunk's value at its last token, 0 elsewhere; [C] to [S] float64."""
        return per_chunk.double()[self.chunk].masked_fill(~self.ends_chunk, 0.0)


def token_line(batch: TokenBatch) -> TokenLine:
    """Lay the trained tokens out in a line.

    Chunks follow each other by their positions in the trajectory, whatever their rows; a chunk's own
    tokens are one run in one row, and so in the order of their columns.
    """
    of_token = batch.chunk_of_token.flatten()
    position = (of_token >= 0).nonzero().squeeze(1)
    span = batch.chunk_position.max() + 1 if len(batch.chunk_position) else 1
    place = batch.chunk_trajectory * span + batch.chunk_position
    position = position[place[of_token[position]].argsort(stable=True)]
    chunk = of_token[position]
    owner = batch.chunk_trajectory[chunk]
    return TokenLine(position=position, chunk=chunk, ends_chunk=_ends(chunk), ends_trajectory=_ends(owner))


def discounted_sums(values: Tensor, line: TokenLine, discount: float) -> Tensor:
    """Return y_t = x_t + discount · y_{t+1} for each token, y being 0 after a trajectory's last; [S] to [S].

    After step i each sum spans 2^i tokens, so that the steps are as many as the longest trajectory's
    length has binary digits.
    """
    sums = values
    factor = torch.full_like(values, discount).masked_fill(line.ends_trajectory, 0.0)
    reach = 1
    # A sum is complete once it reaches its trajectory's end, where its factor is 0.
    while reach < len(values) and bool(factor.any()):
        sums = torch.cat([sums[:-reach] + factor[:-reach] * sums[reach:], sums[-reach:]])
        factor = torch.cat([factor[:-reach] * factor[reach:], factor[-reach:]])
        reach *= 2
    return sums


def _ends(labels: Tensor) -> Tensor:
    """Return where the next label is another one, or there is none; [S] to [S] bool."""
    last = labels.new_ones(min(1, len(labels)), dtype=torch.bool)
    return torch.cat([labels[1:] != labels[:-1], last])
