"""Workers that die on command: who gets which rollout, and what is run again."""

import asyncio
from collections.abc import Callable

import pytest
from tests.backends.execution.recipes import request

from tumbler.contracts.execution import RolloutRequest
from tumbler.errors import ContractError, RunError
from tumbler.testing import sample_trajectory
from tumbler.trajectory.record import Trajectory
from tumbler_backends.execution.dispatch import WorkerLost, WorkerPool


class Worker:
    """Finishes a rollout when told to."""

    def __init__(self, index: int, fails: bool = False) -> None:
        self.index = index
        self.fails = fails
        self.running: dict[str, asyncio.Future[None]] = {}
        self.stopped = 0

    async def start(self) -> None:
        if self.fails:
            raise ContractError("scripted")

    async def run(self, request: RolloutRequest) -> Trajectory:
        self.running[request.id] = asyncio.get_running_loop().create_future()
        try:
            await self.running[request.id]
        finally:
            del self.running[request.id]
        return sample_trajectory(request.id)

    async def stop(self) -> None:
        self.stopped += 1
        self.end(asyncio.CancelledError())

    def end(self, error: BaseException) -> None:
        for future in self.running.values():
            if not future.done():
                future.set_exception(error) if isinstance(error, Exception) else future.cancel()

    def finish(self) -> None:
        for future in self.running.values():
            future.set_result(None)


class Makers:
    """Keeps every worker that is made, in order."""

    def __init__(self, fails: Callable[[int], bool] = lambda count: False) -> None:
        self.made: list[Worker] = []
        self._fails = fails

    def __call__(self, index: int) -> Worker:
        self.made.append(Worker(index, fails=self._fails(len(self.made))))
        return self.made[-1]


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def submitted(pool: WorkerPool, *names: str) -> list["asyncio.Future[Trajectory]"]:
    return [asyncio.ensure_future(pool.submit(request(name))) for name in names]


async def test_the_worker_with_fewest_in_flight_gets_the_next_rollout() -> None:
    makers = Makers()
    pool = WorkerPool(makers, workers=2, room=2, restarts=0)
    await pool.start()
    calls = submitted(pool, "a", "b", "c", "d", "e")
    await settled()
    assert [sorted(worker.running) for worker in makers.made] == [["a", "c"], ["b", "d"]]
    makers.made[1].finish()
    await settled()
    assert [sorted(worker.running) for worker in makers.made] == [["a", "c"], ["e"]]
    for worker in makers.made:
        worker.finish()
    assert [(await call).id for call in calls] == ["a", "b", "c", "d", "e"]
    await pool.close()


async def test_what_a_dead_worker_had_not_finished_goes_to_others_and_it_is_replaced_once() -> None:
    makers = Makers()
    pool = WorkerPool(makers, workers=2, room=4, restarts=5)
    await pool.start()
    calls = submitted(pool, "a", "b", "c", "d")
    await settled()
    makers.made[0].end(WorkerLost("killed"))
    await settled()
    assert len(makers.made) == 3
    assert makers.made[0].stopped == 1
    assert sorted([*makers.made[1].running, *makers.made[2].running]) == ["a", "b", "c", "d"]
    for worker in makers.made:
        worker.finish()
    assert [(await call).id for call in calls] == ["a", "b", "c", "d"]
    assert pool.health() == {"in_flight": 0.0, "workers": 2.0, "restarts": 1.0}
    await pool.close()


async def test_others_go_on_when_a_worker_cannot_be_replaced() -> None:
    makers = Makers(fails=lambda count: count >= 2)
    pool = WorkerPool(makers, workers=2, room=4, restarts=3)
    await pool.start()
    calls = submitted(pool, "a", "b")
    await settled()
    makers.made[0].end(WorkerLost("killed"))
    await settled()
    assert len(makers.made) == 5
    assert sorted(makers.made[1].running) == ["a", "b"]
    makers.made[1].finish()
    assert [(await call).id for call in calls] == ["a", "b"]
    await pool.close()


async def test_the_last_worker_s_death_ends_the_run_and_names_what_it_had() -> None:
    makers = Makers()
    pool = WorkerPool(makers, workers=1, room=4, restarts=1)
    await pool.start()
    calls = submitted(pool, "a", "b")
    await settled()
    makers.made[0].end(WorkerLost("killed by signal 9"))
    await settled()
    makers.made[1].end(WorkerLost("killed by signal 11"))
    for call in calls:
        with pytest.raises(
            RunError, match=r"(?s)1 of them were replaced.*`restarts`.*signal 11\nunfinished then: a, b"
        ):
            await call
    await pool.close()


async def test_a_worker_that_does_not_start_stops_the_others() -> None:
    makers = Makers(fails=lambda count: count == 1)
    pool = WorkerPool(makers, workers=3, room=1, restarts=9)
    with pytest.raises(ContractError, match="scripted"):
        await pool.start()
    assert [worker.stopped for worker in makers.made] == [1, 0, 1]
    with pytest.raises(RunError, match="closed"):
        await pool.submit(request("a"))


async def test_closing_ends_what_runs_and_what_waits() -> None:
    makers = Makers()
    pool = WorkerPool(makers, workers=1, room=1, restarts=9)
    await pool.start()
    running, waiting = submitted(pool, "a", "b")
    await settled()
    await pool.close()
    results = await asyncio.gather(running, waiting, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert isinstance(results[1], RunError)
    assert len(makers.made) == 1


async def test_a_cancelled_rollout_gives_its_place_free() -> None:
    makers = Makers()
    pool = WorkerPool(makers, workers=1, room=1, restarts=0)
    await pool.start()
    first, second = submitted(pool, "a", "b")
    await settled()
    first.cancel()
    await settled()
    assert list(makers.made[0].running) == ["b"]
    makers.made[0].finish()
    assert (await second).id == "b"
    await pool.close()
