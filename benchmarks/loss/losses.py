"""What IPA's loss is compared with: a plain masked token loss, and Eq. 8 and 9 as a loop over chunks."""

import torch
from inputs import Size
from torch import Tensor

from tumbler.contracts.batch import TokenBatch

__all__ = ["chunk_loop", "plain_loss"]

THRESHOLD = 2.0


def plain_loss(batch: TokenBatch, advantage: Tensor, mask: Tensor) -> Tensor:
    """Return the masked mean of the truncated importance ratio times the advantage, [B, T] each; []."""
    ratio = (batch.policy_logprobs - batch.old_logprobs).exp().clamp(max=1.0)
    return -(ratio * advantage * mask).sum() / mask.sum()


def chunk_loop(batch: TokenBatch, size: Size) -> Tensor:
    """Return IPA's loss of a batch without replayed chunks, one chunk after the other; []."""
    total = batch.policy_logprobs.new_zeros(())
    for chunk in range(size.trajectories * size.chunks):
        row, turn = divmod(chunk, size.chunks)
        span = slice(turn * size.turn + size.observed, (turn + 1) * size.turn)
        policy, old = batch.policy_logprobs[row, span], batch.old_logprobs[row, span]
        if (old - batch.behaviour_logprobs[row, span]).mean().exp() > THRESHOLD:
            continue
        weight = torch.ones(())
        if batch.reward[row] <= 0:
            weight = (policy.detach() - old).mean().exp().clamp(max=1.0)
        total = total - weight * batch.chunk_credit[chunk] * policy.sum()
    return total
