"""Runs the groups of one step: many rollouts at once, failed and refused ones again, each finished one reported.

Knows neither environments nor training; rollouts that an earlier process finished are not run again.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from tumbler.contracts.execution import ExecutionBackend, RolloutRequest
from tumbler.errors import RunError, TooManyFailuresError
from tumbler.seeding import derive_seed
from tumbler.trajectory.record import Trajectory

__all__ = ["Collected", "Follow", "Reject", "Report", "Scheduler"]

Report: TypeAlias = Callable[[Trajectory], Awaitable[None]]
"""Awaited for each attempt that finishes."""
Reject: TypeAlias = Callable[[Trajectory], str]
"""Returns why a judged trajectory is dropped; "" keeps it."""
Follow: TypeAlias = Callable[[str, Sequence[Trajectory]], Awaitable[Sequence[RolloutRequest]]]
"""Awaited as soon as a group is complete; returns the requests of one more group to run in its place, or none."""

_REASONS_SHOWN = 10


@dataclass
class Collected:
    """What a call of `Scheduler.collect` brought."""

    trajectories: dict[str, list[Trajectory]] = field(default_factory=dict)
    """Group → its trajectories, in the order of the requests; a group that followed another comes after it."""
    requested: int = 0
    """Rollouts that were wanted, those of groups that followed others too."""
    failures: int = 0
    """Attempts that failed for reasons of infrastructure."""
    lost: int = 0
    """Rollouts whose last attempt failed for reasons of infrastructure and that are missing from their group."""
    reasons: list[str] = field(default_factory=list)
    """Why attempts failed, the first ten."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Reason → attempts that were dropped for it."""
    sampled_tokens: int = 0
    """Tokens that the policy sampled in all attempts, dropped and failed ones too, known from before or not."""


@dataclass(frozen=True, kw_only=True)
class _Work:
    """One call of `Scheduler.collect`."""

    known: Mapping[str, Trajectory]
    report: Report
    reject: Reject | None
    follow: Follow | None
    places: asyncio.Semaphore
    collected: Collected = field(default_factory=Collected)


class Scheduler:
    """Submits rollouts to an execution backend, at most its capacity at a time."""

    def __init__(self, execution: ExecutionBackend, *, attempts: int, failure_share: float) -> None:
        """Run each rollout up to `attempts` times; more lost rollouts than `failure_share` end the run."""
        self._execution = execution
        self._attempts = attempts
        self._failure_share = failure_share
        self._places = asyncio.Semaphore(1)
        self._calls = 0

    async def collect(
        self,
        requests: Sequence[RolloutRequest],
        *,
        known: Mapping[str, Trajectory],
        report: Report,
        reject: Reject | None = None,
        follow: Follow | None = None,
        dispensable: bool = False,
    ) -> Collected:
        """Run every request that `known` (rollout id → trajectory) does not hold and return them by group.

        A trajectory that `reject` refuses gets the status `dropped`, and its rollout starts again at once with
        another seed, which counts as one of the attempts. When a group is complete, `follow` may name one to
        run in its place, and so on; the other groups go on meanwhile. When anything raises, every rollout
        still in flight is cancelled and cleaned up before the error goes on. Calls may overlap: together
        they keep to the capacity. What is `dispensable` never ends the run: lost rollouts are only missing.
        """
        if self._calls == 0:
            self._places = asyncio.Semaphore(max(1, self._execution.capacity))
        self._calls += 1
        work = _Work(known=known, report=report, reject=reject, follow=follow, places=self._places)
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(self._place(group, work)) for group in _by_group(requests)]
        except BaseExceptionGroup as failures:
            raise _innermost(failures) from None
        finally:
            self._calls -= 1
        for task in running:
            work.collected.trajectories.update(task.result())
        if not dispensable:
            self._check(work.collected)
        return work.collected

    async def _place(self, requests: Sequence[RolloutRequest], work: _Work) -> dict[str, list[Trajectory]]:
        """Run a group, and whatever follows it, one after the other; return them in this order."""
        groups: dict[str, list[Trajectory]] = {}
        while requests:
            work.collected.requested += len(requests)
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(self._rollout(request, work)) for request in requests]
            group = requests[0].group
            groups[group] = [found for task in running if (found := task.result()) is not None]
            requests = () if work.follow is None else await work.follow(group, groups[group])
        return groups

    async def _rollout(self, request: RolloutRequest, work: _Work) -> Trajectory | None:
        drops = 0
        # The place is kept from attempt to attempt, so that the next one starts at once.
        async with AsyncExitStack() as place:
            entered = False
            for attempt in range(self._attempts):
                this = _attempted(request, attempt, drops)
                trajectory = _recorded(this, work.known)
                if trajectory is None:
                    if not entered:
                        await place.enter_async_context(work.places)
                        entered = True
                    trajectory = await self._attempt(this, work)
                work.collected.sampled_tokens += trajectory.sampled_tokens
                if trajectory.status == "dropped":
                    drops += 1
                    work.collected.dropped[trajectory.status_reason] += 1
                elif trajectory.status == "infra_failed":
                    _note_failure(trajectory, last=attempt + 1 == self._attempts, collected=work.collected)
                else:
                    return trajectory
        return None

    async def _attempt(self, request: RolloutRequest, work: _Work) -> Trajectory:
        """Run the request, judge what came of it, and report it."""
        trajectory = await self._execution.submit(request)
        reason = work.reject(trajectory) if work.reject is not None and trajectory.judged else ""
        if reason:
            trajectory = replace(trajectory, status="dropped", status_reason=reason)
        await work.report(trajectory)
        return trajectory

    def _check(self, collected: Collected) -> None:
        if collected.lost and collected.lost > self._failure_share * collected.requested:
            reasons = "\n  ".join(collected.reasons)
            raise TooManyFailuresError(
                f"{collected.lost} of {collected.requested} rollouts failed in all {self._attempts} attempts for "
                f"reasons of infrastructure; at most a share of {self._failure_share:g} may:\n  {reasons}"
            )


def _by_group(requests: Sequence[RolloutRequest]) -> list[list[RolloutRequest]]:
    groups: dict[str, list[RolloutRequest]] = {}
    for request in requests:
        groups.setdefault(request.group, []).append(request)
    return list(groups.values())


def _attempted(request: RolloutRequest, attempt: int, drops: int) -> RolloutRequest:
    """Return the request of an attempt: a failure is repeated as it was, after a drop the policy draws anew."""
    if attempt == 0:
        return request
    seed = derive_seed(request.seed, "dropped", drops) if drops else request.seed
    return replace(request, id=f"{request.id}~{attempt}", attempt=attempt, seed=seed)


def _note_failure(trajectory: Trajectory, *, last: bool, collected: Collected) -> None:
    collected.failures += 1
    collected.lost += last
    if len(collected.reasons) < _REASONS_SHOWN:
        collected.reasons.append(f"{trajectory.id}: {trajectory.status_reason}")


def _innermost(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error that is no group of others."""
    error: BaseException = failures
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _recorded(request: RolloutRequest, known: Mapping[str, Trajectory]) -> Trajectory | None:
    trajectory = known.get(request.id)
    if trajectory is not None and trajectory.header.task != request.task.id:
        raise RunError(
            f"rollout {request.id!r} was recorded for task {trajectory.header.task!r} and is now of task "
            f"{request.task.id!r}: the environment or the algorithm has changed since the run began, so it cannot "
            "go on; start a new run"
        )
    return trajectory
