"""Rolls out the groups of one step, and others in place of those that the algorithm refuses. Trains nothing."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from tumbler.contracts.algorithm import Algorithm, FilteringAlgorithm, Group, PlannedGroup, PlanState
from tumbler.contracts.environment import Task
from tumbler.contracts.execution import RolloutRequest
from tumbler.errors import ContractError
from tumbler.rollout.scheduler import Collected
from tumbler.run.experts import ExpertBook
from tumbler.run.replacements import ReplacementBudget
from tumbler.run.tasks import StepTasks
from tumbler.run.workbench import Stage
from tumbler.trajectory import Trajectory

__all__ = ["RolledStep", "StepRollouts"]

_EMPTY = "none of its rollouts was kept"


@dataclass(kw_only=True)
class RolledStep:
    """What the rollouts of a step brought."""

    collected: Collected
    seen: list[Group] = field(default_factory=list)
    """Every group with a trajectory that counts, in the order of the plan; one that replaced another after it."""
    kept: list[Group] = field(default_factory=list)
    """Those of them that are to be trained."""
    refused: Counter[str] = field(default_factory=Counter)
    """Reason → groups that the algorithm refused for it."""
    replaced: int = 0
    """Groups in whose place another was rolled out."""


@dataclass(frozen=True, kw_only=True)
class _Placed:
    """A group at work, and where in the plan it belongs."""

    plan: PlannedGroup
    place: int


class StepRollouts:
    """The rollouts of one step."""

    def __init__(self, stage: Stage, step: int, algorithm: Algorithm, tasks: StepTasks, book: ExpertBook) -> None:
        """Plan with `algorithm`, whose refusals count if it is a `FilteringAlgorithm`."""
        self._stage = stage
        self._step = step
        self._algorithm = algorithm
        self._tasks = tasks
        self._book = book
        self._groups: dict[str, _Placed] = {}
        self._refused: dict[str, str] = {}
        self._replaced = 0
        self._places = 0
        self._budget = ReplacementBudget(places=0, budget=0)

    async def roll_out(self) -> RolledStep:
        """Plan the step, run its rollouts, and return the groups."""
        tasks = await self._tasks.of_step(self._step)
        named = {str(index): task for index, task in enumerate(tasks)}
        planned = await self._plan(named, self._stage.seed("plan", self._step))
        if not planned:
            raise ContractError(f"the algorithm planned no rollouts for step {self._step} from {len(tasks)} tasks")
        allowed = self._stage.bench.resolved.rl.max_replacements
        self._places = len(planned)
        self._budget = ReplacementBudget(places=len(planned), budget=len(planned) if allowed is None else allowed)
        requests = [
            request
            for place, plan in enumerate(planned)
            for request in self._requests(f"{self._step}/{place}", _Placed(plan=plan, place=place))
        ]
        if not isinstance(self._algorithm, FilteringAlgorithm):
            return self._rolled(await self._stage.collect(requests))
        reject, follow = partial(_refusal, self._algorithm), partial(self._follow, self._algorithm)
        return self._rolled(await self._stage.collect(requests, reject=reject, follow=follow))

    async def _plan(self, tasks: dict[str, Task], seed: int) -> Sequence[PlannedGroup]:
        experts = await self._book.gather(self._step, tasks) if self._algorithm.wants_experts else {}
        history = self._stage.bench.state.history
        state = PlanState(step=self._step, seed=seed, experts=experts.get, history=history)
        groups = self._algorithm.plan(list(tasks.values()), state).groups
        for index, group in enumerate(groups):
            if group.size < 1:
                raise ContractError(
                    f"the algorithm planned group {index} of step {self._step}, of task {group.task.id!r}, with a size "
                    f"of {group.size}; it must be 1 or more, and a task that gets no rollouts is left out of the plan"
                )
        return groups

    def _requests(self, name: str, placed: _Placed) -> list[RolloutRequest]:
        plan, env = placed.plan, self._stage.bench.resolved.rl.env
        self._groups[f"{self._stage.info.label}/{name}"] = placed
        return [
            self._stage.request(env, plan.task, f"{name}/{member}", group=name, anchor=plan.anchor)
            for member in range(plan.size)
        ]

    async def _follow(
        self, refusing: FilteringAlgorithm, name: str, trajectories: Sequence[Trajectory]
    ) -> list[RolloutRequest]:
        """Return the requests of the group that replaces one which is complete, if it is refused."""
        placed = self._groups[name]
        group = _group(name, placed.plan, trajectories)
        reason = _EMPTY if group is None else _refusal(refusing, group)
        if not reason:
            await self._budget.settle(placed.place)
            return []
        self._refused[name] = reason
        turn = await self._budget.ask(placed.place)
        if not turn:
            return []
        self._replaced += 1
        plan = await self._replacement(placed, turn)
        return self._requests(f"{self._step}/{placed.place}+{turn}", replace(placed, plan=plan))

    async def _replacement(self, placed: _Placed, turn: int) -> PlannedGroup:
        """Return what the algorithm plans for another task, as many rollouts as were refused.

        Of several groups the first that begins as the refused one did, at an anchor or at the start.
        """
        task = await self._tasks.spare(self._step, turn=turn, place=placed.place, places=self._places)
        name = f"{placed.place}+{turn}"
        groups = await self._plan({name: task}, self._stage.seed("plan", self._step, name))
        alike = [each for each in groups if (each.anchor is None) == (placed.plan.anchor is None)]
        chosen = next(iter([*alike, *groups]), PlannedGroup(task=task, size=placed.plan.size))
        return replace(chosen, size=placed.plan.size)

    def _rolled(self, collected: Collected) -> RolledStep:
        rolled = RolledStep(collected=collected, replaced=self._replaced)
        for name, trajectories in collected.trajectories.items():
            group = _group(name, self._groups[name].plan, trajectories)
            if group is not None:
                rolled.seen.append(group)
                if name not in self._refused:
                    rolled.kept.append(group)
        rolled.refused.update(self._refused.values())
        return rolled


def _group(name: str, plan: PlannedGroup, trajectories: Sequence[Trajectory]) -> Group | None:
    """Return the group of those trajectories that count; None if none does."""
    judged = tuple(each for each in trajectories if each.judged)
    return Group(id=name, task_id=plan.task.id, trajectories=judged, anchor=plan.anchor) if judged else None


def _refusal(refusing: FilteringAlgorithm, candidate: Trajectory | Group) -> str:
    """Return why the algorithm refuses a trajectory or a group; "" if it does not."""
    reason: object
    if isinstance(candidate, Group):
        what, reason = "group", refusing.reject_group(candidate)
    else:
        what, reason = "trajectory", refusing.reject_trajectory(candidate)
    if not isinstance(reason, str):
        raise ContractError(
            f'the algorithm answered {reason!r} for {what} {candidate.id}; it must return "" to keep it, or the '
            "reason as text"
        )
    return reason
