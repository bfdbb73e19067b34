"""The training tasks of an `rl` stage: new ones in each step, or drawn from a fixed pool; spares for groups refused."""

import asyncio
from collections.abc import Iterator, Sequence
from random import Random

from tumbler.contracts.environment import Task
from tumbler.run.workbench import Stage
from tumbler.seeding import derive_seed

__all__ = ["StepTasks", "draw"]


class StepTasks:
    """Deals out tasks, step by step in ascending order; what it deals depends on seeds alone."""

    def __init__(self, stage: Stage, *, per_step: int) -> None:
        """Deal `per_step` tasks in a step, or as many as there are."""
        self._stage = stage
        self._settings = stage.bench.resolved.rl
        self._per_step = per_step
        self._pool: Sequence[Task] = ()
        self._draws: Iterator[list[Task]] = iter(())
        self._drawn = 0
        self._taken: set[str] = set()
        self._spares: list[Sequence[Task]] = []
        self._asking = asyncio.Lock()

    async def of_step(self, step: int) -> Sequence[Task]:
        """Return the tasks of the step and forget the spares of the one before."""
        tasks = await self._from_pool(step) if self._settings.pool else await self._fresh(self._per_step, "tasks", step)
        self._taken = {task.id for task in tasks}
        self._spares = []
        return tasks

    async def spare(self, step: int, *, turn: int, place: int, places: int) -> Task:
        """Return the task for the group that is `turn` (from 1) in line to replace the planned one at `place`.

        Tasks that the step has not seen, as far as there are any.
        """
        async with self._asking:
            while len(self._spares) < turn:
                self._spares.append(await self._more(step, places))
        spares = self._spares[turn - 1]
        return spares[place % len(spares)]

    async def _from_pool(self, step: int) -> Sequence[Task]:
        if not self._pool:
            self._pool = await self._fresh(self._settings.pool, "pool")
            size = min(self._per_step, len(self._pool))
            self._draws = draw(self._pool, size, self._stage.seed("pool", "order"))
        tasks: list[Task] = []
        while self._drawn <= step:
            tasks = next(self._draws)
            self._drawn += 1
        return tasks

    async def _more(self, step: int, count: int) -> Sequence[Task]:
        """Return `count` tasks for one more turn of replacements."""
        turn = len(self._spares) + 1
        if self._pool:
            order = Random(self._stage.seed("spares", step, turn))
            candidates: Sequence[Task] = order.sample(self._pool, len(self._pool))
        else:
            candidates = await self._fresh(count + len(self._taken), "spares", step, turn)
        unseen = [task for task in candidates if task.id not in self._taken] or candidates
        chosen = unseen[:count]
        self._taken.update(task.id for task in chosen)
        return chosen

    async def _fresh(self, count: int, *path: str | int) -> Sequence[Task]:
        return await self._stage.bench.tasks(self._settings.env, "train", count, self._stage.seed(*path))


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
