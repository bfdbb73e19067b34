"""Runs the groups of one step: many rollouts at once, failed ones again, each finished one reported.

Knows neither environments nor training; rollouts that an earlier process finished are not run again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tumbler.contracts.execution import ExecutionBackend, RolloutRequest
from tumbler.errors import RunError, TooManyFailuresError
from tumbler.trajectory.record import Trajectory

__all__ = ["Collected", "Scheduler"]

Report = Callable[[Trajectory], Awaitable[None]]


@dataclass
class Collected:
    """What a call of `Scheduler.collect` brought."""

    trajectories: dict[str, list[Trajectory]] = field(default_factory=dict)
    """Group → its judged trajectories, in the order of the requests."""
    failures: int = 0
    """Attempts that failed for reasons of infrastructure."""
    lost: int = 0
    """Rollouts that failed in every attempt and are missing from their group."""
    reasons: list[str] = field(default_factory=list)
    """Why attempts failed, the first ten."""


class Scheduler:
    """Submits rollouts to an execution backend, at most its capacity at a time."""

    def __init__(self, execution: ExecutionBackend, *, attempts: int, failure_share: float) -> None:
        """Run each rollout up to `attempts` times; more lost rollouts than `failure_share` end the run."""
        self._execution = execution
        self._attempts = attempts
        self._failure_share = failure_share

    async def collect(
        self, requests: Sequence[RolloutRequest], *, known: Mapping[str, Trajectory], report: Report
    ) -> Collected:
        """Run every request that `known` (rollout id → trajectory) does not hold and return them by group.

        `report` is awaited for each attempt that finishes. When it or anything else raises, every rollout
        still in flight is cancelled and cleaned up before the error goes on.
        """
        collected = Collected(trajectories={request.group: [] for request in requests})
        places = asyncio.Semaphore(max(1, self._execution.capacity))
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [
                    tasks.create_task(self._rollout(request, places, known, report, collected)) for request in requests
                ]
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        for request, task in zip(requests, running, strict=True):
            trajectory = task.result()
            if trajectory is not None:
                collected.trajectories[request.group].append(trajectory)
        self._check(collected, len(requests))
        return collected

    async def _rollout(
        self,
        request: RolloutRequest,
        places: asyncio.Semaphore,
        known: Mapping[str, Trajectory],
        report: Report,
        collected: Collected,
    ) -> Trajectory | None:
        for attempt in range(self._attempts):
            this = request if attempt == 0 else replace(request, id=f"{request.id}~{attempt}", attempt=attempt)
            trajectory = _recorded(this, known)
            if trajectory is None:
                async with places:
                    trajectory = await self._execution.submit(this)
                await report(trajectory)
            if trajectory.status != "infra_failed":
                return trajectory
            collected.failures += 1
            if len(collected.reasons) < 10:
                collected.reasons.append(f"{trajectory.id}: {trajectory.status_reason}")
        collected.lost += 1
        return None

    def _check(self, collected: Collected, total: int) -> None:
        if collected.lost and collected.lost > self._failure_share * total:
            reasons = "\n  ".join(collected.reasons)
            raise TooManyFailuresError(
                f"{collected.lost} of {total} rollouts failed in all {self._attempts} attempts for reasons of "
                f"infrastructure; at most a share of {self._failure_share:g} may:\n  {reasons}"
            )


def _recorded(request: RolloutRequest, known: Mapping[str, Trajectory]) -> Trajectory | None:
    trajectory = known.get(request.id)
    if trajectory is not None and trajectory.header.task != request.task.id:
        raise RunError(
            f"rollout {request.id!r} was recorded for task {trajectory.header.task!r} and is now of task "
            f"{request.task.id!r}: the environment or the algorithm has changed since the run began, so it cannot "
            "go on; start a new run"
        )
    return trajectory
