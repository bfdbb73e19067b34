"""IPA's rollouts: initialised resampling (arXiv 2512.24873, 3.2.4.5). Knows neither loss nor credit."""

import math
from collections.abc import Sequence
from random import Random

from tumbler.contracts.algorithm import PlannedGroup, PlanState, RolloutPlan
from tumbler.contracts.environment import Task
from tumbler.seeding import derive_seed
from tumbler.trajectory.record import Trajectory
from tumbler_algorithms.ipa.anchors import anchored_groups, to_anchor
from tumbler_algorithms.ipa.learnt import Learnt
from tumbler_algorithms.ipa.resampling_settings import AnchorSettings
from tumbler_algorithms.ipa.settings import IPASettings

__all__ = ["plan_rollouts"]


def plan_rollouts(tasks: Sequence[Task], state: PlanState, settings: IPASettings, learnt: Learnt) -> RolloutPlan:
    """Return the groups of one step, in the order of the tasks.

    A share of the tasks, drawn at random among those that have an anchor, starts from anchors; the others
    start at the beginning, one group each. Equal arguments give equal plans.
    """
    random = Random(derive_seed("ipa", state.seed, state.step))
    experts = _choose_experts(tasks, state, settings.anchors, learnt, random)
    groups: list[PlannedGroup] = []
    for index, task in enumerate(tasks):
        if index in experts:
            groups.extend(anchored_groups(task, experts[index], settings.anchors, learnt, random))
        else:
            groups.append(PlannedGroup(task=task, size=settings.group_size))
    return RolloutPlan(groups=tuple(groups))


def _choose_experts(
    tasks: Sequence[Task], state: PlanState, anchors: AnchorSettings, learnt: Learnt, random: Random
) -> dict[int, Trajectory]:
    """Return task index → expert for the tasks that start from anchors.

    The fraction of a task that the share leaves over is a chance of one more, so that a step of few
    tasks keeps the share on average.
    """
    wanted = math.floor(anchors.share * len(tasks) + random.random()) if anchors.at_work else 0
    chosen: dict[int, Trajectory] = {}
    for index in random.sample(range(len(tasks)), len(tasks)):
        if len(chosen) == wanted:
            break
        expert = state.experts(tasks[index].id)
        if expert is not None and to_anchor(tasks[index], expert, anchors, learnt):
            chosen[index] = expert
    return chosen
