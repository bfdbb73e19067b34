"""Batches and records of a given size; knows no loss."""

from dataclasses import dataclass

import torch

from tumbler.contracts.batch import TokenBatch
from tumbler.trajectory.record import Chunk, Component, Header, Segment, Trajectory

__all__ = ["Size", "token_batch", "trajectories"]

OBSERVED = 0.3
"""Share of tokens that are the environment's."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a batch is."""

    trajectories: int
    tokens: int
    """Of each trajectory."""
    chunks: int
    """Of each trajectory."""

    @property
    def turn(self) -> int:
        """Return the tokens of an observation and the chunk after it."""
        return self.tokens // self.chunks

    @property
    def observed(self) -> int:
        """Return the tokens of an observation."""
        return int(OBSERVED * self.turn)


def token_batch(size: Size, device: torch.device, *, replayed: int = 0) -> TokenBatch:
    """Return a batch of one row for each trajectory; each one's first `replayed` chunks are an expert's."""
    turn = torch.arange(size.tokens, device=device) // size.turn
    sampled = (torch.arange(size.tokens, device=device) % size.turn >= size.observed) & (turn < size.chunks)
    trained = size.chunks - replayed
    rows = torch.arange(size.trajectories, device=device)[:, None]
    chunk = (rows * trained + turn - replayed).masked_fill(~(sampled & (turn >= replayed)), -1)
    expert = (rows * replayed + turn).masked_fill(~(sampled & (turn < replayed)), -1)
    shape = (size.trajectories, size.tokens)
    policy = -torch.rand(shape, device=device)
    old = policy + 0.1 * torch.randn(shape, device=device)
    owners = torch.arange(size.trajectories, device=device)
    return TokenBatch(
        token_ids=torch.zeros(1, dtype=torch.int64, device=device).expand(shape),
        policy_logprobs=policy.requires_grad_(),
        old_logprobs=old,
        behaviour_logprobs=old + 0.1 * torch.randn(shape, device=device),
        chunk_of_token=chunk,
        imitation_mask=expert >= 0,
        chunk_credit=torch.randn(size.trajectories * trained, device=device),
        chunk_trajectory=owners.repeat_interleave(trained),
        chunk_position=torch.arange(replayed, size.chunks, device=device).repeat(size.trajectories),
        reward=torch.randn(size.trajectories, device=device),
        imitation_chunk_of_token=expert,
        imitation_credit=torch.ones(size.trajectories * replayed, device=device),
        imitation_trajectory=owners.repeat_interleave(replayed),
        imitation_position=torch.arange(replayed, device=device).repeat(size.trajectories),
    )


def trajectories(size: Size) -> list[Trajectory]:
    """Return records of which only what credit looks at is filled in."""
    part = Component(id="any", version="1", settings_hash="0")
    chunks = tuple(
        Chunk(segment=0, start=index * size.turn + size.observed, end=(index + 1) * size.turn)
        for index in range(size.chunks)
    )
    return [
        Trajectory(
            header=Header(id=str(index), task="task", env=part, agent=part),
            segments=(Segment(id=0, token_ids=()),),
            chunks=chunks,
            reward=float(index % 3 == 0),
            success=index % 3 == 0,
        )
        for index in range(size.trajectories)
    ]
