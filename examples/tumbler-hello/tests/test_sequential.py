"""The execution backend `sequential` keeps the contract, and runs one rollout at a time."""

import asyncio
from collections.abc import Callable

import pytest
from tumbler.config import NoSettings
from tumbler.contracts.execution import ExecutionBackend, RolloutRequest
from tumbler.contracts.inference import Sampling
from tumbler.testing import ExecutionSuite, sample_task, sample_trajectory
from tumbler.trajectory import Trajectory

from tumbler_hello.sequential import Sequential


class TestSequential(ExecutionSuite):
    """The contract."""

    @pytest.fixture
    def make_backend(self) -> Callable[[], ExecutionBackend]:
        return lambda: Sequential(NoSettings())


async def test_rollouts_do_not_overlap() -> None:
    running = most = 0

    async def runner(request: RolloutRequest) -> Trajectory:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return sample_trajectory(request.id)

    backend = Sequential(NoSettings())
    await backend.start(runner)
    requests = [
        RolloutRequest(id=f"{index}", task=sample_task(), seed=0, group="g", sampling=Sampling(), env="guess")
        for index in range(5)
    ]
    finished = await asyncio.gather(*map(backend.submit, requests))
    await backend.close()
    assert [each.id for each in finished] == [request.id for request in requests]
    assert most == 1
