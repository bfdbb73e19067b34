"""Generalised advantage estimation over trained tokens (arXiv 1506.02438). B rows, T tokens.

A trajectory is one line of trained tokens, across chunks and segments: prompts, observations and replayed
chunks have no part in it, so that no value of theirs is ever read.
"""

from torch import Tensor

from tumbler.contracts.batch import TokenBatch
from tumbler_algorithms.parts.sequences import discounted_sums, token_line

__all__ = ["generalised_advantages"]


def generalised_advantages(batch: TokenBatch, values: Tensor, *, gamma: float, lambda_: float) -> tuple[Tensor, Tensor]:
    """Return each trained token's advantage and return, 0 elsewhere; both [B, T] without gradient.

    A_t = Σ_i (γλ)^i δ_{t+i} with δ_t = r_t + γ V_{t+1} - V_t (Eq. 16), V being 0 after the last token, and
    the return is A_t + V_t. The credit of a chunk is the reward of its last token.
    """
    line = token_line(batch)
    expected = line.take(values.detach())
    surprise = line.at_chunk_ends(batch.chunk_credit) + gamma * line.following(expected) - expected
    advantage = discounted_sums(surprise, line, gamma * lambda_)
    return line.put(advantage, batch), line.put(advantage + expected, batch)
