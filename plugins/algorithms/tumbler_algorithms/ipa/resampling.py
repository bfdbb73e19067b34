"""Initialised resampling as IPA uses it: what was learnt from rollouts, and what follows from it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from tumbler.contracts.algorithm import Group, PlanState, RolloutPlan
from tumbler.contracts.environment import Task
from tumbler.contracts.values import JSONObject
from tumbler.trajectory.record import Trajectory
from tumbler_algorithms.ipa.crucial import find_crucial
from tumbler_algorithms.ipa.learnt import ALL_TASKS, Learnt, Record, StepRate, Told, outcome_of, read_learnt
from tumbler_algorithms.ipa.plan import plan_rollouts
from tumbler_algorithms.ipa.resampling_metrics import resampling_metrics
from tumbler_algorithms.ipa.rollback import advance, resume
from tumbler_algorithms.ipa.settings import IPASettings

__all__ = ["Resampling"]


class Resampling:
    """Plans rollouts and learns from them; `observe` and `restore` alone change what it knows."""

    def __init__(self, settings: IPASettings) -> None:
        """Know nothing yet."""
        self._settings = settings
        self._anchors = settings.anchors
        self._learnt = Learnt()

    def plan(self, tasks: Sequence[Task], state: PlanState) -> RolloutPlan:
        """Choose the rollouts of the next step."""
        return plan_rollouts(tasks, state, self._settings, self._learnt)

    def observe(self, groups: Sequence[Group]) -> dict[str, float]:
        """Learn from a step's groups and return metrics of the step."""
        self._learnt.steps += 1
        told: defaultdict[tuple[str, int], Told] = defaultdict(Told)
        for group in groups:
            self._note(group, told)
        for (key, left), each in told.items():
            step = StepRate(step=self._learnt.steps, won=each.won, taken=each.taken)
            self._record(key).note(left, step, memory=self._anchors.memory)
        if self._anchors.mode == "rollback":
            self._roll_back(told)
        else:
            self._compare({key for key, _ in told})
        self._learnt.forget_old_tasks()
        return resampling_metrics(groups, self._learnt, self._anchors)

    def select_imitated(self, group: Group, credited: list[list[float]]) -> list[list[float]]:
        """Return the credit, with 0 for replayed chunks that are not to be imitated (Eq. 10).

        With `imitate = "crucial"` only replayed chunks that are known to be crucial by now keep theirs.
        """
        if self._anchors.imitate == "all" or group.anchor is None:
            return credited
        crucial = self._crucial_chunks(group.task_id, group.anchor.expert)
        return [
            [
                0.0 if chunk.replayed and index not in crucial else credit
                for index, (chunk, credit) in enumerate(zip(trajectory.chunks, each, strict=True))
            ]
            for trajectory, each in zip(group.trajectories, credited, strict=True)
        ]

    def state(self) -> JSONObject:
        """Return all that was learnt, as JSON."""
        return self._learnt.model_dump(mode="json")

    def restore(self, state: JSONObject) -> None:
        """Go on from what `state` returned; from `{}`, at the beginning."""
        self._learnt = read_learnt(state)

    def _note(self, group: Group, told: defaultdict[tuple[str, int], Told]) -> None:
        """Add a group's outcomes to those of its task, in the scope `task`, and to those of all.

        How many chunks an episode from the start has to do is known only where the task's expert is.
        """
        by_task = self._anchors.scope == "task"
        if group.anchor is not None:
            expert = group.anchor.expert
            left = len(expert.chunks) - group.anchor.chunk
            self._learnt.shared.chunks = max(self._learnt.shared.chunks, len(expert.chunks))
            if by_task:
                self._learnt.task(group.task_id, expert)
        elif by_task and group.task_id in self._learnt.tasks:
            left = self._learnt.tasks[group.task_id].chunks
        else:
            return
        outcomes = "".join(outcome_of(each) for each in group.trajectories)
        keys = [ALL_TASKS]
        if by_task:
            self._learnt.tasks[group.task_id].touched = self._learnt.steps
            keys.append(group.task_id)
        for key in keys:
            told[key, left].outcomes += outcomes
            told[key, left].groups += 1

    def _roll_back(self, told: Mapping[tuple[str, int], Told]) -> None:
        standing = {
            key: each
            for (key, left), each in told.items()
            if self._is_scope(key) and left == self._record(key).place.left
        }
        for key, each in standing.items():
            advance(self._learnt, key, self._record(key), each, self._anchors)
        for record in (self._learnt.shared, *self._learnt.tasks.values()):
            resume(self._learnt.steps, record)

    def _compare(self, keys: set[str]) -> None:
        for key in filter(self._is_scope, sorted(keys)):
            find_crucial(self._learnt, key, self._record(key), self._anchors)

    def _is_scope(self, key: str) -> bool:
        return (key == ALL_TASKS) == (self._anchors.scope == "global")

    def _record(self, key: str) -> Record:
        return self._learnt.shared if key == ALL_TASKS else self._learnt.tasks[key]

    def _crucial_chunks(self, task_id: str, expert: Trajectory) -> set[int]:
        if self._anchors.scope == "task" and self._learnt.known(task_id, expert) is None:
            return set()
        key = ALL_TASKS if self._anchors.scope == "global" else task_id
        return {len(expert.chunks) - each.left for each in self._learnt.crucial.get(key, ())}
