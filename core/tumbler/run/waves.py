"""Keeps waves of rollouts running ahead of training, and gives each step what it trains. Trains nothing.

A wave is what the algorithm plans at one time, as many groups as a step trains. The wave of a step may begin
`max_staleness` steps before it, so that rollouts and training overlap; 0 lets neither begin before the other ends.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tumbler.contracts.algorithm import Group
from tumbler.rollout.scheduler import Collected
from tumbler.run.experts import ExpertBook
from tumbler.run.rolling import RolledPlace, WaveRollouts
from tumbler.run.tasks import StepTasks
from tumbler.run.workbench import Stage

__all__ = ["RolledStep", "Waves"]


@dataclass(kw_only=True)
class RolledStep:
    """What a step trains, and what its rollouts brought besides."""

    collected: Collected = field(default_factory=Collected)
    seen: list[Group] = field(default_factory=list)
    """Every group with a trajectory that counts, in the order of the plans; one that replaced another after it."""
    kept: list[Group] = field(default_factory=list)
    """Those of them that are to be trained."""
    refused: Counter[str] = field(default_factory=Counter)
    """Reason → groups that the algorithm refused for it."""
    replaced: int = 0
    """Groups in whose place another was rolled out."""

    @classmethod
    def of(cls, places: Sequence[RolledPlace]) -> "RolledStep":
        """Return what the places brought together."""
        rolled = cls()
        for each in places:
            rolled.collected.add(each.collected)
            rolled.seen += each.seen
            rolled.kept += each.kept
            rolled.refused += each.refused
            rolled.replaced += each.replaced
        return rolled


@dataclass(frozen=True, kw_only=True)
class _Wave:
    """A wave at work."""

    rollouts: WaveRollouts
    task: "asyncio.Task[None]"
    taken: set[int]
    """Places that a step has trained."""

    @property
    def left(self) -> int | None:
        """Return how many of its places no step has trained; None before its plan is known."""
        return None if self.rollouts.places is None else self.rollouts.places - len(self.taken)


class Waves:
    """The waves of a stage. Leaving its context cancels whatever still runs, and waits until it is gone."""

    def __init__(self, stage: Stage, tasks: StepTasks, book: ExpertBook) -> None:
        """Go on from where the run's state stands."""
        self._stage = stage
        self._tasks = tasks
        self._book = book
        self._settings = stage.bench.resolved.rl
        self._waves: dict[int, _Wave] = {}
        self._settled: dict[tuple[int, int], RolledPlace] = {}
        self._changed = asyncio.Event()
        self._next = stage.plans.oldest(stage.bench.state.step)

    async def __aenter__(self) -> Self:
        """Start nothing yet."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancel what is in flight and wait for it."""
        running = [wave.task for wave in self._waves.values()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def allow(self, step: int) -> None:
        """Begin every wave that may be under way while the step is trained."""
        last = min(step + self._settings.max_staleness, self._settings.steps - 1)
        while self._next <= last:
            self._begin(self._next)
            self._next += 1

    async def take(self, step: int) -> RolledStep:
        """Wait until there is enough for the step, and return it, in the order of the plans.

        Raises whatever ended a wave, also one that later steps were to train.
        """
        recorded = self._stage.plans.chosen(step)
        while (chosen := self._choose(step, recorded)) is None:
            self._changed.clear()
            await self._changed.wait()
        rolled = [self._settled.pop(place) for place in sorted(chosen)]
        if self._settings.max_staleness:
            self._stage.plans.choose(step, sorted(chosen))
        for each in rolled:
            self._waves[each.wave].taken.add(each.place)
            self._stage.spend(each.collected)
        self._forget(step)
        return RolledStep.of(rolled)

    def _begin(self, number: int) -> None:
        rollouts = WaveRollouts(self._stage, number, self._tasks, self._book)
        taken = self._stage.plans.trained(number, before=self._stage.bench.state.step)
        task = asyncio.create_task(rollouts.roll_out(self._settle, without=frozenset(taken)))
        task.add_done_callback(lambda _task: self._changed.set())
        self._waves[number] = _Wave(rollouts=rollouts, task=task, taken=taken)

    def _settle(self, place: RolledPlace) -> None:
        self._settled[place.wave, place.place] = place
        self._changed.set()

    def _choose(self, step: int, recorded: Sequence[tuple[int, int]] | None) -> Sequence[tuple[int, int]] | None:
        """Return the places that the step trains; None while they are not all there."""
        self._raise_failures()
        if recorded is not None:
            return recorded if all(place in self._settled for place in recorded) else None
        if self._settings.order == "plan":
            wave = self._waves[step]
            done = wave.task.done()
            return [place for place in self._settled if place[0] == step] if done else None
        wanted = self._waves[step].rollouts.places
        if wanted is None or (len(self._settled) < wanted and any(self._unsettled())):
            return None
        return sorted(self._settled)[:wanted]

    def _unsettled(self) -> Iterator[int]:
        """Yield the waves of which something may still come."""
        return (number for number, wave in self._waves.items() if not wave.task.done())

    def _raise_failures(self) -> None:
        for wave in self._waves.values():
            if wave.task.done():
                wave.task.result()

    def _forget(self, step: int) -> None:
        """Let go of waves up to the step's own of which everything is trained."""
        spent = [
            number for number, wave in self._waves.items() if number <= step and wave.task.done() and not wave.left
        ]
        for number in spent:
            del self._waves[number]
        state = self._stage.bench.state
        state.waves = [number for number in state.waves if number not in spent]
