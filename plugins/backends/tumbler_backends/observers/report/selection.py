"""Choose the few trajectories that a reader should see; knows no markup."""

from collections.abc import Sequence
from itertools import groupby

from tumbler_backends.observers.report.source import StoredTrajectory

__all__ = ["outcome_of", "select_trajectories"]

_QUOTA = {"rl": 3, "eval": 4, "sft": 1}
"""Trajectories of each outcome from each half of a stage, by the stage's kind."""
_LIMIT = 60


def select_trajectories(stored: Sequence[StoredTrajectory]) -> list[StoredTrajectory]:
    """Return some trajectories of each stage, half and outcome: from each half the first or last ones.

    They stay in the order of the stages and within them of time.
    """
    chosen: list[StoredTrajectory] = []
    for _, stage in groupby(stored, key=lambda each: each.stage):
        everything = list(stage)
        # Experts inside an RL stage are there to be anchors; what the policy did comes first.
        members = [each for each in everything if each.trajectory.header.source == "policy"] or everything
        quota = _QUOTA.get(members[0].kind, 2)
        for late in (False, True):
            for outcome in ("success", "failure", "no verdict"):
                matching = [each for each in members if each.late is late and outcome_of(each) == outcome]
                chosen += matching[-quota:] if late else matching[:quota]
    order = {id(each): index for index, each in enumerate(stored)}
    return sorted(chosen[-_LIMIT:], key=lambda each: order[id(each)])


def outcome_of(stored: StoredTrajectory) -> str:
    """Return success, failure or no verdict."""
    trajectory = stored.trajectory
    if not trajectory.judged:
        return "no verdict"
    return "success" if trajectory.success else "failure"
