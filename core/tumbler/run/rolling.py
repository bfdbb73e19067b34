"""Rolls out the groups of one wave, and others in place of those that the algorithm refuses. Trains nothing."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias

from tumbler.contracts.algorithm import FilteringAlgorithm, Group, PlannedGroup, PlanState
from tumbler.contracts.environment import Task
from tumbler.contracts.execution import RolloutRequest
from tumbler.errors import ContractError
from tumbler.rollout.scheduler import Collected
from tumbler.run.experts import ExpertBook
from tumbler.run.replacements import ReplacementBudget
from tumbler.run.tasks import StepTasks, WaveTasks
from tumbler.run.workbench import Stage
from tumbler.trajectory import Trajectory

__all__ = ["RolledPlace", "Settled", "WaveRollouts"]

_EMPTY = "none of its rollouts was kept"


@dataclass(frozen=True, kw_only=True)
class RolledPlace:
    """What came of one place of a wave's plan: the group that was planned there, and those that replaced it."""

    wave: int
    place: int
    collected: Collected
    seen: list[Group] = field(default_factory=list)
    """Every group with a trajectory that counts, each before the one that replaced it."""
    kept: list[Group] = field(default_factory=list)
    """Those of them that are to be trained."""
    refused: Counter[str] = field(default_factory=Counter)
    """Reason → groups that the algorithm refused for it."""
    replaced: int = 0
    """Groups in whose place another was rolled out."""


Settled: TypeAlias = Callable[[RolledPlace], None]
"""Called with each place of a wave as soon as nothing more will come of it."""


@dataclass(frozen=True, kw_only=True)
class _Placed:
    """A group at work, and where in the plan it belongs."""

    plan: PlannedGroup
    place: int


class WaveRollouts:
    """The rollouts of one wave: what the algorithm plans at one time."""

    def __init__(self, stage: Stage, wave: int, tasks: StepTasks, book: ExpertBook) -> None:
        """Plan with the run's algorithm, whose refusals count if it is a `FilteringAlgorithm`."""
        self.wave = wave
        self.places: int | None = None
        """How many groups are planned; None before that is known."""
        self._stage = stage
        self._algorithm = stage.bench.need_algorithm()
        self._tasks = tasks
        self._dealt: WaveTasks | None = None
        self._book = book
        self._groups: dict[str, _Placed] = {}
        self._refused: dict[str, str] = {}
        self._replaced: Counter[int] = Counter()
        self._budget = ReplacementBudget(places=0, budget=0)

    async def roll_out(self, settled: Settled, *, without: Collection[int] = ()) -> None:
        """Plan the wave and run its rollouts, but for places that were trained; each place is told to `settled`."""
        planned = await self._plan_wave()
        allowed = self._stage.bench.resolved.rl.max_replacements
        self._budget = ReplacementBudget(places=len(planned), budget=len(planned) if allowed is None else allowed)
        for place in without:
            await self._budget.take_up(place, turns=self._stage.plans.replacements(self.wave, place))
        self.places = len(planned)
        requests = [
            request
            for place, plan in enumerate(planned)
            if place not in without
            for request in self._requests(f"{self.wave}/{place}", _Placed(plan=plan, place=place))
        ]
        reject, follow = None, None
        if isinstance(self._algorithm, FilteringAlgorithm):
            reject, follow = partial(_refusal, self._algorithm), partial(self._follow, self._algorithm)
        await self._stage.collect(
            requests,
            reject=reject,
            follow=follow,
            settle=lambda collected: settled(self._rolled(collected)),
            rank=self.wave,
            spares=self._stage.bench.resolved.rl.redundant_rollouts,
        )

    async def _plan_wave(self) -> Sequence[PlannedGroup]:
        """Return the wave's plan: what an earlier process wrote down, where it did."""
        stage, wave = self._stage, self.wave
        self._dealt = await self._tasks.of_wave(wave)
        tasks = {str(index): task for index, task in enumerate(self._dealt.planned)}
        known = stage.plans.read(str(wave))
        waves = stage.bench.state.waves
        if known is not None and wave in waves:
            return known
        # Without a checkpoint of the time after the plan, the experts that it was made with are to be found again.
        experts = await self._experts(tasks)
        if known is None:
            known = self._ask(tasks.values(), stage.seed("plan", wave), experts)
            if not known:
                raise ContractError(f"the algorithm planned no rollouts for step {wave} from {len(tasks)} tasks")
            self._write(str(wave), known)
        waves.append(wave)
        return known

    def _write(self, name: str, groups: Sequence[PlannedGroup]) -> None:
        """Write a plan down where it runs ahead of training; otherwise it is made again."""
        if self._stage.bench.resolved.rl.max_staleness:
            self._stage.plans.write(name, groups)

    async def _experts(self, tasks: dict[str, Task]) -> dict[str, Trajectory]:
        return await self._book.gather(self.wave, tasks) if self._algorithm.wants_experts else {}

    def _ask(self, tasks: Iterable[Task], seed: int, experts: dict[str, Trajectory]) -> tuple[PlannedGroup, ...]:
        """Return what the algorithm plans for the tasks."""
        history = self._stage.bench.state.history
        state = PlanState(step=self.wave, seed=seed, experts=experts.get, history=history)
        groups = self._algorithm.plan(list(tasks), state).groups
        for index, group in enumerate(groups):
            if group.size < 1:
                raise ContractError(
                    f"the algorithm planned group {index} of step {self.wave}, of task {group.task.id!r}, with a size "
                    f"of {group.size}; it must be 1 or more, and a task that gets no rollouts is left out of the plan"
                )
        return groups

    def _requests(self, name: str, placed: _Placed) -> list[RolloutRequest]:
        plan, rl = placed.plan, self._stage.bench.resolved.rl
        self._groups[f"{self._stage.info.label}/{name}"] = placed
        return [
            self._stage.request(rl.env, plan.task, f"{name}/{member}", group=name, anchor=plan.anchor)
            for member in range(plan.size + rl.redundant_rollouts)
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
        self._replaced[placed.place] += 1
        plan = await self._replacement(placed, turn)
        return self._requests(f"{self.wave}/{placed.place}+{turn}", replace(placed, plan=plan))

    async def _replacement(self, placed: _Placed, turn: int) -> PlannedGroup:
        """Return what the algorithm plans for another task, as many rollouts as were refused.

        Of several groups the first that begins as the refused one did, at an anchor or at the start.
        """
        if self._dealt is None or self.places is None:
            raise AssertionError("a group is replaced before the wave is planned")
        task = await self._dealt.spare(turn=turn, place=placed.place, places=self.places)
        name = f"{placed.place}+{turn}"
        known = self._stage.plans.read(f"{self.wave}/{name}")
        if known is None:
            experts = await self._experts({name: task})
            groups = self._ask([task], self._stage.seed("plan", self.wave, name), experts)
            alike = [each for each in groups if (each.anchor is None) == (placed.plan.anchor is None)]
            chosen = next(iter([*alike, *groups]), PlannedGroup(task=task, size=placed.plan.size))
            known = (replace(chosen, size=placed.plan.size),)
            self._write(f"{self.wave}/{name}", known)
        return known[0]

    def _rolled(self, collected: Collected) -> RolledPlace:
        """Return what came of the place whose groups were collected."""
        names = list(collected.trajectories)
        place = self._groups[names[0]].place
        found = [_group(name, self._groups[name].plan, collected.trajectories[name]) for name in names]
        seen = [group for group in found if group is not None]
        return RolledPlace(
            wave=self.wave,
            place=place,
            collected=collected,
            seen=seen,
            kept=[group for group in seen if group.id not in self._refused],
            refused=Counter(self._refused[name] for name in names if name in self._refused),
            replaced=self._replaced[place],
        )


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
