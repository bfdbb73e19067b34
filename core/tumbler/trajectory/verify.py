"""The rules of the trajectory record, checked on arrival; knows no producer."""

import math
from collections.abc import Iterator

from tumbler.errors import TrajectoryError
from tumbler.trajectory.record import CAUSES, Chunk, Trajectory

__all__ = ["verify_trajectory"]


def verify_trajectory(trajectory: Trajectory) -> None:
    """Raise `TrajectoryError` that lists every broken rule of the record.

    The rules: segments are numbered from 0, have a known cause, and their parents come before them; each chunk is a
    non-empty run inside its segment; no token belongs to two chunks; sampled chunks carry one finite
    log-probability ≤ 0 for each token and a policy version, others carry none; only chunks that the
    policy sampled in this episode are trainable; a trajectory that failed for reasons of
    infrastructure has neither reward nor success, and every judged one has both.
    """
    problems = [*_segment_problems(trajectory), *_chunk_problems(trajectory), *_verdict_problems(trajectory)]
    if problems:
        listing = "\n".join(f"  - {problem}" for problem in problems)
        raise TrajectoryError(f"trajectory {trajectory.id!r} breaks {len(problems)} rule(s):\n{listing}")


def _segment_problems(trajectory: Trajectory) -> Iterator[str]:
    for index, segment in enumerate(trajectory.segments):
        if segment.id != index:
            yield f"segment {index} has id {segment.id}; ids count from 0 in order"
        if segment.parent is not None and not 0 <= segment.parent < index:
            yield f"segment {index} names parent {segment.parent}, which does not come before it"
        if segment.cause not in CAUSES:
            yield f"segment {index} has the cause {segment.cause!r}; causes are {', '.join(CAUSES)}"
        if (segment.cause == "start") != (index == 0):
            yield f"segment {index} has the cause {segment.cause!r}; the first one, and no other, starts the episode"
        if any(token < 0 for token in segment.token_ids):
            yield f"segment {index} holds a negative token id"


def _chunk_problems(trajectory: Trajectory) -> Iterator[str]:
    reached: dict[int, int] = {}
    for index, chunk in enumerate(trajectory.chunks):
        if not 0 <= chunk.segment < len(trajectory.segments):
            yield f"chunk {index} lies in segment {chunk.segment}, which does not exist"
            continue
        length = len(trajectory.segments[chunk.segment].token_ids)
        if not 0 <= chunk.start < chunk.end <= length:
            yield f"chunk {index} covers {chunk.start}..{chunk.end} of a segment of {length} tokens"
        if chunk.start < reached.get(chunk.segment, 0):
            yield f"chunk {index} overlaps an earlier chunk of segment {chunk.segment}"
        reached[chunk.segment] = max(chunk.end, reached.get(chunk.segment, 0))
        yield from _sampling_problems(index, chunk)


def _sampling_problems(index: int, chunk: Chunk) -> Iterator[str]:
    logprobs = chunk.behaviour_logprobs
    if chunk.trainable and (not chunk.sampled or chunk.replayed):
        yield f"chunk {index} is trainable but the policy did not sample it in this episode"
    if chunk.sampled and len(logprobs) != chunk.end - chunk.start:
        yield f"chunk {index} has {len(logprobs)} log-probabilities for {chunk.end - chunk.start} tokens"
    if chunk.sampled and chunk.policy_version is None:
        yield f"chunk {index} was sampled but names no policy version"
    if not chunk.sampled and logprobs:
        yield f"chunk {index} was not sampled but carries log-probabilities"
    if any(not math.isfinite(value) or value > 1e-6 for value in logprobs):
        yield f"chunk {index} has a log-probability that is not finite or above 0"


def _verdict_problems(trajectory: Trajectory) -> Iterator[str]:
    status = trajectory.status
    if status == "infra_failed" and (trajectory.reward is not None or trajectory.success is not None):
        yield "status infra_failed with a verdict; such an episode has none"
    if status in ("completed", "truncated", "policy_violation"):
        if trajectory.reward is None or trajectory.success is None:
            yield f"status {status} without reward or success"
        elif not math.isfinite(trajectory.reward):
            yield f"reward {trajectory.reward} is not finite"
    if status in ("infra_failed", "dropped") and not trajectory.status_reason:
        yield f"status {status} without a reason"
