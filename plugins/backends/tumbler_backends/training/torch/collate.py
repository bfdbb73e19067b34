"""Lays examples out as tensors. R rows, T tokens, S loss tokens, C trained chunks, N trajectories."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tumbler.contracts.batch import TokenBatch
from tumbler_backends.training.torch.layout import Example

__all__ = ["Batch", "behaviour_logprobs", "collate", "token_batch"]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The input of one forward pass, and the tokens whose log-probabilities are asked for.

    Loss tokens are ordered by example, then as in `Example.spans`.
    """

    token_ids: Tensor
    """[R, T] int64, right-padded with token 0."""
    positions: Tensor
    """[S] int64: row · T + column of each loss token; the column is never 0."""
    temperatures: Tensor | None
    """[S] by which logits are divided; None if all are 1."""


def collate(examples: Sequence[Example], *, device: torch.device) -> Batch:
    """Return the examples' rows, padded to the longest, and where their loss tokens lie."""
    width = max(max(example.lengths) for example in examples)
    rows: list[list[int]] = []
    positions: list[int] = []
    temperatures: list[float] = []
    for example in examples:
        for span in example.spans:
            offset = (len(rows) + span.row) * width
            positions.extend(range(offset + span.start, offset + span.end))
        for row, length in enumerate(example.lengths):
            rows.append([*example.row_tokens(row), *(0 for _ in range(width - length))])
        temperatures.extend([example.temperature] * example.loss_tokens)
    scaled = any(temperature != 1 for temperature in temperatures)
    return Batch(
        token_ids=torch.tensor(rows, device=device),
        positions=torch.tensor(positions, device=device),
        temperatures=torch.tensor(temperatures, device=device) if scaled else None,
    )


def behaviour_logprobs(example: Example) -> list[float]:
    """Return the inference engine's log-probability of each loss token; 0 where it gave none."""
    values: list[float] = []
    for index, span in zip((*example.trained, *example.imitated), example.spans, strict=True):
        chunk = example.trajectory.chunks[index]
        count = span.end - span.start
        values.extend(chunk.behaviour_logprobs[-count:] if chunk.behaviour_logprobs else [0.0] * count)
    return values


def token_batch(examples: Sequence[Example], batch: Batch, *, policy: Tensor, old: Tensor) -> TokenBatch:
    """Return what an algorithm's loss sees.

    Args:
        examples: the trajectories, as given to `collate`.
        batch: what `collate` made of them.
        policy: [S] log-probabilities under the weights in training, with gradient.
        old: [S] log-probabilities under the weights that sampled.
    """
    device = batch.token_ids.device
    behaviour = [value for example in examples for value in behaviour_logprobs(example)]
    chunks = [(index, example, chunk) for index, example in enumerate(examples) for chunk in example.trained]
    chunk_of_token = torch.tensor(_chunk_of_loss_token(examples), device=device)
    credits_ = [example.credits[chunk] for _, example, chunk in chunks]
    rewards = [example.trajectory.reward or 0.0 for example in examples]
    return TokenBatch(
        token_ids=batch.token_ids,
        policy_logprobs=_spread(policy, batch, fill=0),
        old_logprobs=_spread(old.to(policy.dtype), batch, fill=0),
        behaviour_logprobs=_spread(torch.tensor(behaviour, dtype=policy.dtype, device=device), batch, fill=0),
        chunk_of_token=_spread(chunk_of_token, batch, fill=-1),
        imitation_mask=_spread(chunk_of_token < 0, batch, fill=0),
        chunk_credit=torch.tensor(credits_, dtype=policy.dtype, device=device),
        chunk_trajectory=torch.tensor([index for index, _, _ in chunks], dtype=torch.int64, device=device),
        chunk_position=torch.tensor([chunk for _, _, chunk in chunks], dtype=torch.int64, device=device),
        reward=torch.tensor(rewards, dtype=policy.dtype, device=device),
    )


def _chunk_of_loss_token(examples: Sequence[Example]) -> list[int]:
    values: list[int] = []
    chunk = 0
    for example in examples:
        for span in example.spans[: len(example.trained)]:
            values.extend([chunk] * (span.end - span.start))
            chunk += 1
        values.extend([-1] * (example.loss_tokens - example.trained_tokens))
    return values


def _spread(values: Tensor, batch: Batch, *, fill: int) -> Tensor:
    """Return [R, T] with the values [S] at the loss tokens and `fill` elsewhere."""
    flat = torch.full((batch.token_ids.numel(),), fill, dtype=values.dtype, device=values.device)
    return flat.scatter(0, batch.positions, values).view(batch.token_ids.shape)
