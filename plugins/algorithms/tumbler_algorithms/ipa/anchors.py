"""Which chunks of an expert a task's rollouts start from, and how many of them; draws, and learns nothing."""

from random import Random

from tumbler.contracts.algorithm import PlannedGroup
from tumbler.contracts.environment import Task
from tumbler.trajectory.record import Anchor, Trajectory
from tumbler_algorithms.ipa.learnt import ALL_TASKS, Learnt, Rate, Record, RollbackPlace
from tumbler_algorithms.ipa.resampling_settings import AnchorSettings

__all__ = ["anchored_groups", "expected_success", "rollback_place", "to_anchor"]

_PRIOR = 2.0
"""Rollouts that a guess counts for."""

_EXPLORED = 0.1
"""Share of the draws that know no success rate: what an anchor is remembered by ages with the policy."""


def to_anchor(task: Task, expert: Trajectory, anchors: AnchorSettings, learnt: Learnt) -> bool:
    """Return whether there is an anchor to start from.

    Chunk 0 is none, since nothing is replayed, and after the last chunk nothing is left to sample; a
    rollback that has come to the start is over, or rests.
    """
    if anchors.mode == "rollback":
        place = rollback_place(task.id, anchors, learnt)
        return place.resumes is None and place.left < len(expert.chunks)
    return len(expert.chunks) > 1


def anchored_groups(
    task: Task, expert: Trajectory, anchors: AnchorSettings, learnt: Learnt, random: Random
) -> list[PlannedGroup]:
    """Return the groups of a task that starts from anchors, in the order of the anchors."""
    if anchors.mode == "rollback":
        sizes = _rollback_anchor(task, expert, anchors, learnt)
    else:
        chosen = _parallel_anchors(task, expert, anchors, learnt, random)
        sizes = dict.fromkeys(chosen, anchors.group_size)
    return [
        PlannedGroup(task=task, size=size, anchor=Anchor(expert=expert, chunk=chunk)) for chunk, size in sizes.items()
    ]


def rollback_place(task_id: str, anchors: AnchorSettings, learnt: Learnt) -> RollbackPlace:
    """Return where the rollback stands for a task."""
    if anchors.scope == "global":
        return learnt.shared.place
    record = learnt.tasks.get(task_id)
    return RollbackPlace() if record is None else record.place


def expected_success(left: int, record: Record | None, shared: Record) -> float:
    """Return p_k as far as it is known: the task's own rate, drawn towards that of all tasks, that to 1/2.

    Each guess weighs as much as two rollouts, so that no rate is ever 0 or 1. An anchor of which nothing
    is known is taken to be as informative as one can be.
    """
    everyone = _drawn(shared.rate(left), 0.5)
    return everyone if record is None else _drawn(record.rate(left), everyone)


def _drawn(rate: Rate, guess: float) -> float:
    return (rate.won + _PRIOR * guess) / (rate.taken + _PRIOR)


def _rollback_anchor(task: Task, expert: Trajectory, anchors: AnchorSettings, learnt: Learnt) -> dict[int, int]:
    """Return the one anchor and its rollouts.

    At a crucial chunk that is to be imitated, a second anchor is right after it: only there is it replayed.
    """
    place = rollback_place(task.id, anchors, learnt)
    chunk = len(expert.chunks) - place.left
    sizes = {chunk: anchors.per_task * anchors.group_size}
    crucial = learnt.crucial.get(ALL_TASKS if anchors.scope == "global" else task.id, ())
    if anchors.imitate == "crucial" and any(each.left == place.left for each in crucial):
        sizes[chunk + 1] = anchors.group_size
    return sizes


def _parallel_anchors(
    task: Task, expert: Trajectory, anchors: AnchorSettings, learnt: Learnt, random: Random
) -> list[int]:
    """Return distinct anchors in [1, chunks - 1], ascending."""
    chunks = len(expert.chunks)
    count = min(anchors.per_task, chunks - 1)
    if anchors.choice == "random":
        return sorted(random.sample(range(1, chunks), count))
    if anchors.choice == "uniform":
        return [(2 * (place + 1) * chunks + count + 1) // (2 * (count + 1)) for place in range(count)]
    weights = _frontier_weights(task, expert, anchors, learnt)
    # The greatest of u^(1/w) draw without replacement and by weight (Efraimidis and Spirakis, 2006).
    keys = {chunk: random.random() ** (1 / weight) for chunk, weight in weights.items()}
    return sorted(sorted(keys, key=lambda chunk: keys[chunk], reverse=True)[:count])


def _frontier_weights(task: Task, expert: Trajectory, anchors: AnchorSettings, learnt: Learnt) -> dict[int, float]:
    """Return the chance of each anchor to be drawn first: by p(1-p), and for a share of the draws evenly."""
    chunks = len(expert.chunks)
    record = learnt.known(task.id, expert) if anchors.scope == "task" else None
    rates = {chunk: expected_success(chunks - chunk, record, learnt.shared) for chunk in range(1, chunks)}
    total = sum(rate * (1 - rate) for rate in rates.values())
    return {
        chunk: (1 - _EXPLORED) * rate * (1 - rate) / total + _EXPLORED / len(rates) for chunk, rate in rates.items()
    }
