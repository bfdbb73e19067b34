"""Small records for tests: tasks, and trajectories that keep the rules of the record."""

from collections.abc import Sequence
from dataclasses import replace

from tumbler.contracts.environment import Task
from tumbler.trajectory.record import Chunk, Component, Header, Segment, Trajectory

__all__ = ["sample_task", "sample_trajectory"]

_PROMPT, _REPLY = 2, 3
"""Tokens that the policy did not sample, and that it did, in each turn."""


def sample_task(index: int = 0, split: str = "train") -> Task:
    """Return a task; different indices and splits make different ones."""
    return Task(id=f"{split}-{index}", instruction=f"Do task {index}.", split=split, metadata={"index": index})


def sample_trajectory(
    identity: str = "sample",
    *,
    task: Task | None = None,
    turns: int = 3,
    reward: float | None = 1.0,
    replayed: int = 0,
    expert: bool = False,
    first_token: int = 1,
    vocabulary: int = 16,
) -> Trajectory:
    """Return a trajectory of one segment: in each turn 2 tokens of prompt and a chunk of 3.

    Args:
        identity: the trajectory's id.
        task: what it is about; None takes `sample_task()`.
        turns: how many chunks it has.
        reward: of the whole; above 0 is a success, and None is an episode without a verdict.
        replayed: how many chunks were replayed from an expert.
        expert: whether an expert acted, so that no chunk was sampled.
        first_token: token ids count up from it, modulo `vocabulary`.
        vocabulary: token ids are below it.
    """
    tokens = tuple((first_token + index) % vocabulary for index in range(turns * (_PROMPT + _REPLY)))
    record = Trajectory(
        header=_header(identity, task or sample_task(), expert=expert),
        segments=(Segment(id=0, token_ids=tokens),) if turns else (),
        chunks=tuple(_chunk(turn, sampled=not expert and turn >= replayed, expert=expert) for turn in range(turns)),
        reward=reward,
        success=None if reward is None else reward > 0,
    )
    return record if reward is not None else replace(record, status="infra_failed", status_reason="sample")


def _header(identity: str, task: Task, *, expert: bool) -> Header:
    component = Component(id="sample", version="0", settings_hash="0")
    return Header(id=identity, task=task.id, env=component, agent=component, source="expert" if expert else "policy")


def _chunk(turn: int, *, sampled: bool, expert: bool) -> Chunk:
    start = turn * (_PROMPT + _REPLY) + _PROMPT
    logprobs: Sequence[float] = [-0.25 * (1 + (turn + token) % 4) for token in range(_REPLY)]
    return Chunk(
        segment=0,
        start=start,
        end=start + _REPLY,
        text=f"turn {turn}",
        sampled=sampled,
        replayed=not sampled and not expert,
        trainable=sampled,
        behaviour_logprobs=tuple(logprobs) if sampled else (),
        policy_version=0 if sampled else None,
        observation="seen",
    )
