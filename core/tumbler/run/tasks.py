"""The training tasks of an `rl` stage: new ones in each step, or drawn from a fixed pool; spares for groups refused."""

import asyncio
from collections.abc import Iterator, Sequence
from random import Random

from tumbler.contracts.environment import Task
from tumbler.run.workbench import Stage
from tumbler.seeding import derive_seed

__all__ = ["StepTasks", "WaveTasks", "draw", "fresh_tasks"]


class StepTasks:
    """Deals out tasks, wave by wave in ascending order; what it deals depends on seeds alone."""

    def __init__(self, stage: Stage, *, per_step: int) -> None:
        """Deal `per_step` tasks to a wave, or as many as there are."""
        self._stage = stage
        self._settings = stage.bench.resolved.rl
        self._per_step = per_step
        self._pool: Sequence[Task] = ()
        self._draws: Iterator[list[Task]] = iter(())
        self._drawn = 0
        self._drawing = asyncio.Lock()

    async def of_wave(self, wave: int) -> "WaveTasks":
        """Return the tasks of the wave."""
        async with self._drawing:
            drawn = await self._from_pool(wave) if self._settings.pool else ()
        return WaveTasks(
            self._stage, wave, drawn or await fresh_tasks(self._stage, self._per_step, "tasks", wave), pool=self._pool
        )

    async def _from_pool(self, wave: int) -> Sequence[Task]:
        if not self._pool:
            self._pool = await fresh_tasks(self._stage, self._settings.pool, "pool")
            size = min(self._per_step, len(self._pool))
            self._draws = draw(self._pool, size, self._stage.seed("pool", "order"))
        tasks: list[Task] = []
        while self._drawn <= wave:
            tasks = next(self._draws)
            self._drawn += 1
        return tasks


class WaveTasks:
    """The tasks of one wave, and others for groups of it that are refused."""

    def __init__(self, stage: Stage, wave: int, tasks: Sequence[Task], *, pool: Sequence[Task] = ()) -> None:
        """Deal spares from the pool, or new ones where it is empty."""
        self.planned = tasks
        self._stage = stage
        self._wave = wave
        self._pool = pool
        self._taken = {task.id for task in tasks}
        self._spares: list[Sequence[Task]] = []
        self._asking = asyncio.Lock()

    async def spare(self, *, turn: int, place: int, places: int) -> Task:
        """Return the task for the group that is `turn` (from 1) in line to replace the planned one at `place`.

        Tasks that the wave has not seen, as far as there are any.
        """
        async with self._asking:
            while len(self._spares) < turn:
                self._spares.append(await self._more(places))
        spares = self._spares[turn - 1]
        return spares[place % len(spares)]

    async def _more(self, count: int) -> Sequence[Task]:
        """Return `count` tasks for one more turn of replacements."""
        turn = len(self._spares) + 1
        if self._pool:
            order = Random(self._stage.seed("spares", self._wave, turn))
            candidates: Sequence[Task] = order.sample(self._pool, len(self._pool))
        else:
            candidates = await fresh_tasks(self._stage, count + len(self._taken), "spares", self._wave, turn)
        unseen = [task for task in candidates if task.id not in self._taken] or candidates
        chosen = unseen[:count]
        self._taken.update(task.id for task in chosen)
        return chosen


async def fresh_tasks(stage: Stage, count: int, *path: str | int) -> Sequence[Task]:
    """Return new training tasks, as many as there are; equal paths give equal ones."""
    return await stage.bench.tasks(stage.bench.resolved.rl.env, "train", count, stage.seed(*path))


def draw(pool: Sequence[Task], size: int, seed: int) -> Iterator[list[Task]]:
    """Yield `size` different tasks of the pool for ever; each pass over the pool has each task once.

    Where a pass ends within a step, the next one begins with tasks that the step does not have.
    """
    waiting: list[Task] = []
    count = 0
    while True:
        if len(waiting) < size:
            order = list(pool)
            Random(derive_seed(seed, count)).shuffle(order)
            present = {task.id for task in waiting}
            waiting += sorted(order, key=lambda task: task.id in present)
            count += 1
        yield waiting[:size]
        waiting = waiting[size:]
