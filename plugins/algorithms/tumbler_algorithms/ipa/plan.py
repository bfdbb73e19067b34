"""IPA's rollouts: parallelised initialisation (arXiv 2512.24873, 3.2.4.5). Knows neither loss nor credit."""

import math
from collections.abc import Sequence
from random import Random

from tumbler.contracts.algorithm import PlannedGroup, PlanState, RolloutPlan
from tumbler.contracts.environment import Task
from tumbler.seeding import derive_seed
from tumbler.trajectory.record import Anchor, Trajectory
from tumbler_algorithms.ipa.settings import AnchorSettings, IPASettings

__all__ = ["plan_rollouts"]


def plan_rollouts(tasks: Sequence[Task], state: PlanState, settings: IPASettings) -> RolloutPlan:
    """Return the groups of one step, in the order of the tasks.

    A share of the tasks, drawn at random among those whose expert has a chunk to replay and one to
    leave, starts from anchors; the others start at the beginning, one group each.
    """
    random = Random(derive_seed("ipa", state.seed, state.step))
    experts = _choose_experts(tasks, state, settings.anchors.share, random)
    groups: list[PlannedGroup] = []
    for index, task in enumerate(tasks):
        expert = experts.get(index)
        if expert is None:
            groups.append(PlannedGroup(task=task, size=settings.group_size))
            continue
        for chunk in _anchor_chunks(len(expert.chunks), settings.anchors, random):
            anchor = Anchor(expert=expert, chunk=chunk)
            groups.append(PlannedGroup(task=task, size=settings.anchors.group_size, anchor=anchor))
    return RolloutPlan(groups=tuple(groups))


def _choose_experts(tasks: Sequence[Task], state: PlanState, share: float, random: Random) -> dict[int, Trajectory]:
    """Return task index → expert for the tasks that start from anchors.

    The fraction of a task that the share leaves over is a chance of one more, so that a step of few
    tasks keeps the share on average.
    """
    wanted = math.floor(share * len(tasks) + random.random())
    chosen: dict[int, Trajectory] = {}
    for index in random.sample(range(len(tasks)), len(tasks)):
        if len(chosen) == wanted:
            break
        expert = state.experts(tasks[index].id)
        if expert is not None and len(expert.chunks) > 1:
            chosen[index] = expert
    return chosen


def _anchor_chunks(chunks: int, anchors: AnchorSettings, random: Random) -> list[int]:
    """Return distinct anchors in [1, chunks - 1], ascending.

    Chunk 0 is no anchor, since nothing is replayed; after the last chunk nothing is left to sample.
    """
    count = min(anchors.per_task, chunks - 1)
    if anchors.choice == "random":
        return sorted(random.sample(range(1, chunks), count))
    return [(2 * (place + 1) * chunks + count + 1) // (2 * (count + 1)) for place in range(count)]
