"""One batch for both sides: log-probabilities, masks and rewards of groups of trajectories of several turns."""

from dataclasses import dataclass

import numpy
import torch
from torch import Tensor

from tumbler.contracts.algorithm import Group
from tumbler.contracts.batch import TokenBatch
from tumbler.trajectory.record import Chunk, Component, Header, Segment, Trajectory

__all__ = ["Inputs", "make"]

OBSERVED = 0.3
"""Share of tokens that are the environment's."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """B trajectories of T tokens."""

    policy: Tensor
    """[B, T] log-probabilities with gradient."""
    old: Tensor
    """[B, T]."""
    mask: Tensor
    """[B, T] float: 1 where the policy sampled."""
    chunk_of_token: Tensor
    """[B, T] int64: the same in chunks, -1 elsewhere."""
    chunk_trajectory: Tensor
    """[C]."""
    chunk_position: Tensor
    """[C]."""
    rewards: Tensor
    """[B]."""
    group_of: "numpy.ndarray[tuple[int], numpy.dtype[numpy.int64]]"
    """[B]."""
    groups: tuple[Group, ...]
    """The same trajectories as records."""

    def token_batch(self, credit: Tensor) -> TokenBatch:
        """Return the batch with each chunk's credit, [C]."""
        return TokenBatch(
            token_ids=torch.zeros(1, dtype=torch.int64).expand(self.policy.shape),
            policy_logprobs=self.policy,
            old_logprobs=self.old,
            behaviour_logprobs=self.old,
            chunk_of_token=self.chunk_of_token,
            imitation_mask=torch.zeros(1, dtype=torch.bool).expand(self.policy.shape),
            chunk_credit=credit,
            chunk_trajectory=self.chunk_trajectory,
            chunk_position=self.chunk_position,
            reward=self.rewards,
        )


def make(*, trajectories: int, tokens: int, chunks: int, group: int) -> Inputs:
    """Return inputs of a given size; equal sizes give equal inputs."""
    generator = torch.Generator().manual_seed(0)
    turn, observed = tokens // chunks, int(OBSERVED * (tokens // chunks))
    position = torch.arange(tokens)
    sampled = (position % turn >= observed) & (position // turn < chunks)
    chunk = torch.arange(trajectories)[:, None] * chunks + position // turn
    policy = -torch.rand(trajectories, tokens, generator=generator)
    rewards = torch.rand(trajectories, generator=generator)
    part = Component(id="any", version="1", settings_hash="0")
    turns = tuple(Chunk(segment=0, start=index * turn + observed, end=(index + 1) * turn) for index in range(chunks))
    records = [
        Trajectory(
            header=Header(id=str(index), task="task", env=part, agent=part),
            segments=(Segment(id=0, token_ids=()),),
            chunks=turns,
            reward=float(reward),
            success=True,
        )
        for index, reward in enumerate(rewards)
    ]
    return Inputs(
        policy=policy.requires_grad_(),
        old=policy.detach() + 0.1 * torch.randn(policy.shape, generator=generator),
        mask=sampled.float().expand(trajectories, tokens).contiguous(),
        chunk_of_token=chunk.masked_fill(~sampled, -1),
        chunk_trajectory=torch.arange(trajectories).repeat_interleave(chunks),
        chunk_position=torch.arange(chunks).repeat(trajectories),
        rewards=rewards,
        group_of=numpy.arange(trajectories) // group,
        groups=tuple(
            Group(id=str(start), task_id="task", trajectories=tuple(records[start : start + group]))
            for start in range(0, trajectories, group)
        ),
    )
