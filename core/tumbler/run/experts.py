"""The expert trajectories of an `rl` stage, by task: where they come from, which one is kept, when it is made anew.

What the book knows lies in the run's state, and the trajectories in the stage's journal, so that a
resumed run has the very same ones.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Literal, cast

from tumbler.contracts.agent import Demonstrator
from tumbler.contracts.environment import ExpertEnvironment, Task
from tumbler.contracts.values import JSONObject
from tumbler.run.assembly import environment_key
from tumbler.run.workbench import Stage
from tumbler.trajectory import Trajectory

__all__ = ["ExpertBook"]

_LOG = logging.getLogger("tumbler.run")
_ACTORS: Mapping[str, Literal["policy", "expert", "teacher"]] = {
    "environment": "expert",
    "self": "policy",
    "teacher": "teacher",
}
"""Source of the registry → who acts in the rollouts that are made for the book."""


class ExpertBook:
    """Task → a successful trajectory from its beginning."""

    def __init__(self, stage: Stage) -> None:
        """Go on with what the run's state holds."""
        self._stage = stage
        self._settings = stage.bench.resolved.rl.experts
        self._env = stage.bench.resolved.rl.env
        self.lost: Counter[int] = Counter()
        """Step → rollouts made for the book that failed in all attempts for reasons of infrastructure."""

    async def gather(self, step: int, tasks: Mapping[str, Task]) -> dict[str, Trajectory]:
        """Return task id → expert trajectory for those of the tasks that have one.

        `tasks` are named within the step. Those without an expert trajectory, or whose one is due, get the
        attempts that the registry allows; what fails leaves the old one, whatever it failed of.
        """
        due = {name: task for name, task in tasks.items() if self._can_roll and self._is_due(task.id, step)}
        requests = [
            self._stage.request(
                self._env,
                task,
                f"{step}/expert-{name}" + (f".{attempt}" if attempt else ""),
                group=f"{step}/expert-{name}",
                source=_ACTORS[self._settings.source],
            )
            for name, task in due.items()
            for attempt in range(self._settings.attempts)
        ]
        collected = await self._stage.collect(requests, dispensable=True)
        if collected.lost:
            self.lost[step] += collected.lost
            _LOG.warning(
                "%s step %d: %d of %d rollouts for experts failed for reasons of infrastructure, such as %s",
                *(self._stage.info.label, step, collected.lost, collected.requested, collected.reasons[-1]),
            )
        for group in collected.trajectories.values():
            found = [each for each in group if each.success]
            if found:
                self._note(self._best(found), step)
        entries = self._entries
        known = (task.id for task in tasks.values() if task.id in entries)
        return {task: self._stage.journal.read(str(entries[task]["trajectory"])) for task in known}

    def learn(self, step: int, trajectories: Iterable[Trajectory]) -> None:
        """Take note of the policy's own successes, if they are what experts are made of."""
        if self._settings.source != "self":
            return
        for trajectory in trajectories:
            # One that began at an anchor is in part an expert's, and an old one's at that.
            if trajectory.judged and trajectory.success and trajectory.header.anchor is None:
                self._offer(trajectory, step)

    @property
    def _entries(self) -> dict[str, JSONObject]:
        return self._stage.bench.state.experts

    @property
    def _can_roll(self) -> bool:
        if self._settings.source != "environment":
            return True
        instance = self._stage.bench.environments[environment_key(self._env)]
        return self._agent_demonstrates and isinstance(instance, ExpertEnvironment)

    @cached_property
    def _agent_demonstrates(self) -> bool:
        bench = self._stage.bench
        return isinstance(bench.resolved.agent.build(bench.host), Demonstrator)

    def _is_due(self, task: str, step: int) -> bool:
        entry = self._entries.get(task)
        if entry is None:
            return True
        every = self._settings.refresh_every
        return every > 0 and step - cast("int", entry["step"]) >= every

    def _best(self, found: Sequence[Trajectory]) -> Trajectory:
        if self._settings.keep == "recent":
            return found[-1]
        return min(found, key=lambda each: len(each.chunks))

    def _offer(self, trajectory: Trajectory, step: int) -> None:
        task = trajectory.header.task
        shorter = self._settings.keep == "recent" or (
            task in self._entries and len(trajectory.chunks) < cast("int", self._entries[task]["chunks"])
        )
        if shorter or self._is_due(task, step):
            self._note(trajectory, step)

    def _note(self, trajectory: Trajectory, step: int) -> None:
        self._entries[trajectory.header.task] = {
            "trajectory": trajectory.id,
            "chunks": len(trajectory.chunks),
            "step": step,
        }
