"""Lays examples out as tensors. R rows, T tokens, S loss tokens, C trained chunks, N trajectories."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tumbler.contracts.batch import TokenBatch
from tumbler_backends.training.torch.layout import Example
from tumbler_backends.training.torch.packed import Packed, pack

__all__ = ["Batch", "LossTokens", "behaviour_logprobs", "collate", "one_token", "token_batch", "whole_sequence"]


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
    rows: tuple[tuple[int, ...], ...] = ()
    """The token ids without padding."""

    @cached_property
    def packed(self) -> Packed | None:
        """Return the rows with each common prefix once; None if that is not worth it."""
        return pack(self.rows, device=self.token_ids.device) if self.rows else None


def collate(examples: Sequence[Example], *, device: torch.device) -> Batch:
    """Return the examples' rows, padded to the longest, and where their loss tokens lie."""
    width = max(max(example.lengths) for example in examples)
    rows: list[tuple[int, ...]] = []
    positions: list[int] = []
    temperatures: list[float] = []
    for example in examples:
        for span in example.spans:
            offset = (len(rows) + span.row) * width
            positions.extend(range(offset + span.start, offset + span.end))
        rows.extend(example.row_tokens(row) for row in range(len(example.lengths)))
        temperatures.extend([example.temperature] * example.loss_tokens)
    scaled = any(temperature != 1 for temperature in temperatures)
    return Batch(
        token_ids=torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device),
        positions=torch.tensor(positions, device=device),
        temperatures=torch.tensor(temperatures, device=device) if scaled else None,
        rows=tuple(rows),
    )


def one_token(device: torch.device) -> Batch:
    """Return the smallest batch that can be scored."""
    positions = torch.ones(1, dtype=torch.int64, device=device)
    return Batch(token_ids=torch.zeros(1, 2, dtype=torch.int64, device=device), positions=positions, temperatures=None)


def whole_sequence(token_ids: Sequence[int], *, device: torch.device) -> Batch:
    """Return one row whose tokens are all scored but the first."""
    positions = torch.arange(1, len(token_ids), device=device)
    return Batch(token_ids=torch.tensor([list(token_ids)], device=device), positions=positions, temperatures=None)


def behaviour_logprobs(example: Example) -> list[float]:
    """Return the inference engine's log-probability of each loss token; 0 where it gave none."""
    values: list[float] = []
    for index, span in zip((*example.trained, *example.imitated), example.spans, strict=True):
        chunk = example.trajectory.chunks[index]
        count = span.end - span.start
        values.extend(chunk.behaviour_logprobs[-count:] if chunk.behaviour_logprobs else [0.0] * count)
    return values


@dataclass(frozen=True, kw_only=True)
class LossTokens:
    """What is known of each loss token; all are [S]. See `TokenBatch` for those that may be None."""

    policy: Tensor
    """Log-probabilities under the weights in training, with gradient."""
    old: Tensor
    """Log-probabilities under the weights that sampled."""
    reference: Tensor | None = None
    entropies: Tensor | None = None
    values: Tensor | None = None
    old_values: Tensor | None = None


def token_batch(examples: Sequence[Example], batch: Batch, tokens: LossTokens) -> TokenBatch:
    """Return what an algorithm's loss sees of the examples, as given to `collate`, which made `batch` of them."""
    policy = tokens.policy
    behaviour = [value for example in examples for value in behaviour_logprobs(example)]
    rewards = [example.trajectory.reward or 0.0 for example in examples]
    trained = _chunks(examples, batch, policy.dtype, imitated=False)
    imitated = _chunks(examples, batch, policy.dtype, imitated=True)

    def spread(values: Tensor | None) -> Tensor | None:
        return None if values is None else _spread(values.to(policy.dtype), batch, fill=0)

    return TokenBatch(
        token_ids=batch.token_ids,
        policy_logprobs=_spread(policy, batch, fill=0),
        old_logprobs=_spread(tokens.old.to(policy.dtype), batch, fill=0),
        behaviour_logprobs=_spread(torch.tensor(behaviour, dtype=policy.dtype, device=policy.device), batch, fill=0),
        chunk_of_token=trained.of_token,
        imitation_mask=imitated.of_token >= 0,
        chunk_credit=trained.credit,
        chunk_trajectory=trained.trajectory,
        chunk_position=trained.position,
        reward=torch.tensor(rewards, dtype=policy.dtype, device=policy.device),
        reference_logprobs=spread(tokens.reference),
        entropies=spread(tokens.entropies),
        values=spread(tokens.values),
        old_values=spread(tokens.old_values),
        imitation_chunk_of_token=imitated.of_token,
        imitation_credit=imitated.credit,
        imitation_trajectory=imitated.trajectory,
        imitation_position=imitated.position,
    )


@dataclass(frozen=True, kw_only=True)
class _Chunks:
    """The trained chunks of a batch, or its replayed ones, in the order of examples and of their chunks."""

    of_token: Tensor
    """[R, T] int64: index of the chunk, or -1."""
    credit: Tensor
    trajectory: Tensor
    position: Tensor


def _chunks(examples: Sequence[Example], batch: Batch, dtype: torch.dtype, *, imitated: bool) -> _Chunks:
    device = batch.token_ids.device
    chunks: list[tuple[int, int]] = []
    of_loss_token: list[int] = []
    for index, example in enumerate(examples):
        for place, (chunk, span) in enumerate(zip((*example.trained, *example.imitated), example.spans, strict=True)):
            chosen = (place >= len(example.trained)) is imitated
            of_loss_token.extend([len(chunks) if chosen else -1] * (span.end - span.start))
            if chosen:
                chunks.append((index, chunk))
    credits_ = [examples[index].credits[chunk] for index, chunk in chunks]
    return _Chunks(
        of_token=_spread(torch.tensor(of_loss_token, dtype=torch.int64, device=device), batch, fill=-1),
        credit=torch.tensor(credits_, dtype=dtype, device=device),
        trajectory=torch.tensor([index for index, _ in chunks], dtype=torch.int64, device=device),
        position=torch.tensor([chunk for _, chunk in chunks], dtype=torch.int64, device=device),
    )


def _spread(values: Tensor, batch: Batch, *, fill: int) -> Tensor:
    """Return [R, T] with the values [S] at the loss tokens and `fill` elsewhere."""
    flat = torch.full((batch.token_ids.numel(),), fill, dtype=values.dtype, device=values.device)
    return flat.scatter(0, batch.positions, values).view(batch.token_ids.shape)
