"""Runs the groups of one step: many rollouts at once, failed and refused ones again, each finished one reported.

Knows neither environments nor training; rollouts that an earlier process finished are not run again.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import TypeAlias

from tumbler.contracts.execution import ExecutionBackend, RolloutRequest
from tumbler.errors import RunError, TooManyFailuresError
from tumbler.rollout.flights import Flights, GivenUp
from tumbler.rollout.places import Places, Standing
from tumbler.seeding import derive_seed
from tumbler.trajectory.record import Trajectory

__all__ = ["Collected", "Follow", "Reject", "Report", "Scheduler", "Settle", "Span"]

Report: TypeAlias = Callable[[Trajectory], Awaitable[None]]
"""Awaited for each attempt that finishes."""
Reject: TypeAlias = Callable[[Trajectory], str]
"""Returns why a judged trajectory is dropped; "" keeps it."""
Follow: TypeAlias = Callable[[str, Sequence[Trajectory]], Awaitable[Sequence[RolloutRequest]]]
"""Awaited as soon as a group is complete; returns the requests of one more group to run in its place, or none."""

_REASONS_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Span:
    """How long a rollout held its place."""

    seconds: float
    finished: bool
    """False for one that was cut: it would have taken longer."""


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
    spans: list[Span] = field(default_factory=list)
    """The rollouts that ran here and now, where some may be cut."""

    def add(self, other: "Collected") -> None:
        """Take in what another part of the call brought."""
        self.trajectories.update(other.trajectories)
        self.requested += other.requested
        self.failures += other.failures
        self.lost += other.lost
        self.reasons = (self.reasons + other.reasons)[:_REASONS_SHOWN]
        self.dropped.update(other.dropped)
        self.sampled_tokens += other.sampled_tokens
        self.spans += other.spans


Settle: TypeAlias = Callable[[Collected], None]
"""Called with what one group, and all that followed it, brought, as soon as none follows any more."""


@dataclass(frozen=True, kw_only=True)
class _Work:
    """One call of `Scheduler.collect`."""

    known: Mapping[str, Trajectory]
    report: Report
    reject: Reject | None
    follow: Follow | None
    settle: Settle | None
    rank: int
    spares: int
    places: Places


@dataclass(frozen=True, kw_only=True)
class _Group:
    """A group at work."""

    work: _Work
    standing: Standing
    part: Collected


class Scheduler:
    """Submits rollouts to an execution backend, at most its capacity at a time."""

    def __init__(self, execution: ExecutionBackend, *, attempts: int, failure_share: float) -> None:
        """Run each rollout up to `attempts` times; more lost rollouts than `failure_share` end the run."""
        self._execution = execution
        self._attempts = attempts
        self._failure_share = failure_share
        self._places = Places(1)
        self._calls = 0
        self.flights = Flights()
        """What is in flight; whoever watches may give it up, which counts as a failure of infrastructure."""

    async def collect(
        self,
        requests: Sequence[RolloutRequest],
        *,
        known: Mapping[str, Trajectory],
        report: Report,
        reject: Reject | None = None,
        follow: Follow | None = None,
        settle: Settle | None = None,
        rank: int = 0,
        spares: int = 0,
        dispensable: bool = False,
    ) -> Collected:
        """Run every request that `known` (rollout id → trajectory) does not hold and return them by group.

        A trajectory that `reject` refuses gets the status `dropped`, and its rollout starts again at once with
        another seed, which counts as one of the attempts. When a group is complete, `follow` may name one to
        run in its place, and so on; the other groups go on meanwhile. When anything raises, every rollout
        still in flight is cancelled and cleaned up before the error goes on. What is `dispensable` never ends
        the run: lost rollouts are only missing.

        Calls may overlap: together they keep to the capacity, and a place that falls free goes to the call of
        the lowest `rank`, within it to the group with fewest rollouts left. Of each group `spares` rollouts are
        more than it needs: it is complete without as many, and those still running then are cut.
        """
        if self._calls == 0:
            self._places = Places(max(1, self._execution.capacity))
        self._calls += 1
        work = _Work(
            known=known,
            report=report,
            reject=reject,
            follow=follow,
            settle=settle,
            rank=rank,
            spares=spares,
            places=self._places,
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(self._place(group, work)) for group in _by_group(requests)]
        except BaseExceptionGroup as failures:
            raise _innermost(failures) from None
        finally:
            self._calls -= 1
        collected = Collected()
        for task in running:
            collected.add(task.result())
        if not dispensable:
            self._check(collected)
        return collected

    async def _place(self, requests: Sequence[RolloutRequest], work: _Work) -> Collected:
        """Run a group, and whatever follows it, one after the other; return them in this order."""
        part = Collected()
        while requests:
            part.requested += len(requests)
            group = _Group(work=work, standing=Standing(rank=work.rank, left=len(requests)), part=part)
            name = requests[0].group
            part.trajectories[name] = await self._group(requests, group)
            requests = () if work.follow is None else await work.follow(name, part.trajectories[name])
        if work.settle is not None:
            work.settle(part)
        return part

    async def _group(self, requests: Sequence[RolloutRequest], group: _Group) -> list[Trajectory]:
        """Run the rollouts of a group, those first of which an earlier process knew something."""
        needed = max(1, len(requests) - group.work.spares)
        found: dict[str, Trajectory] = {}
        known = [request for request in requests if request.id in group.work.known]
        for some in (known, [request for request in requests if request not in known]):
            if len(found) >= needed:
                break
            async with asyncio.TaskGroup() as tasks:
                running = {tasks.create_task(self._rollout(request, group)): request.id for request in some}
                pending = set(running)
                while pending and len(found) < needed:
                    done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                    found |= {running[task]: ended for task in done if (ended := _ended(task)) is not None}
                for task in pending:
                    task.cancel()
        return [found[request.id] for request in requests if request.id in found]

    async def _rollout(self, request: RolloutRequest, group: _Group) -> Trajectory | None:
        work, part, drops = group.work, group.part, 0
        # The place is kept from attempt to attempt, so that the next one starts at once.
        async with AsyncExitStack() as place:
            entered = False
            for attempt in range(self._attempts):
                this = _attempted(request, attempt, drops)
                trajectory = _recorded(this, work.known)
                if trajectory is None:
                    if not entered:
                        await place.enter_async_context(work.places.hold(group.standing))
                        entered = True
                    try:
                        trajectory = await self._attempt(this, group)
                    except GivenUp as error:
                        _note_failure(this.id, str(error), last=attempt + 1 == self._attempts, collected=part)
                        continue
                part.sampled_tokens += trajectory.sampled_tokens
                if trajectory.status == "dropped":
                    drops += 1
                    part.dropped[trajectory.status_reason] += 1
                elif trajectory.status == "infra_failed":
                    last = attempt + 1 == self._attempts
                    _note_failure(trajectory.id, trajectory.status_reason, last=last, collected=part)
                else:
                    work.places.finished(group.standing)
                    return trajectory
        work.places.finished(group.standing)
        return None

    async def _attempt(self, request: RolloutRequest, group: _Group) -> Trajectory:
        """Run the request, judge what came of it, and report it."""
        work, begun, finished = group.work, monotonic(), False
        try:
            trajectory = await self.flights.follow(request.id, self._execution.submit(request))
            finished = True
        finally:
            if work.spares:
                group.part.spans.append(Span(seconds=monotonic() - begun, finished=finished))
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


def _ended(task: "asyncio.Task[Trajectory | None]") -> Trajectory | None:
    """Return what a finished rollout brought; nothing where it failed, which its task group raises."""
    return None if task.cancelled() or task.exception() is not None else task.result()


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


def _note_failure(attempt: str, reason: str, *, last: bool, collected: Collected) -> None:
    collected.failures += 1
    collected.lost += last
    if len(collected.reasons) < _REASONS_SHOWN:
        collected.reasons.append(f"{attempt}: {reason}")


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
