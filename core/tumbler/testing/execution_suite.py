"""The contract of execution backends as tests, with runners that wait, fail and clean up on command."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tumbler.contracts.execution import EpisodeRunner, ExecutionBackend, RolloutRequest
from tumbler.contracts.inference import Sampling
from tumbler.errors import ContractError
from tumbler.testing.samples import sample_task, sample_trajectory
from tumbler.testing.suite import ContractSuite, asynchronous
from tumbler.trajectory.record import Trajectory

__all__ = ["ExecutionSuite"]

Build = Callable[[], ExecutionBackend]

_MANY = 12


class ExecutionSuite(ContractSuite):
    """Subclass it with the fixture `make_backend`."""

    @pytest.fixture
    def make_backend(self) -> Build:
        """Override: return a function that builds a backend that is not yet started."""
        raise NotImplementedError("define the fixture make_backend: a function that builds the execution backend")

    @asynchronous
    async def test_it_takes_at_least_one_rollout(self, make_backend: Build) -> None:
        """The core never has more in flight than `capacity`."""
        async with _started(make_backend(), _echo) as backend:
            assert backend.capacity >= 1

    @asynchronous
    async def test_a_rollout_comes_back(self, make_backend: Build) -> None:
        """As the runner returned it."""
        async with _started(make_backend(), _echo) as backend:
            assert await backend.submit(_request("one")) == await _echo(_request("one"))

    @asynchronous
    async def test_each_caller_gets_its_own_rollout(self, make_backend: Build) -> None:
        """Many at once, whatever order they finish in."""

        async def shuffled(request: RolloutRequest) -> Trajectory:
            for _ in range(-int(request.id.rpartition("-")[2]) % 7):
                await asyncio.sleep(0)
            return await _echo(request)

        async with _started(make_backend(), shuffled) as backend:
            names = [f"rollout-{index}" for index in range(_MANY)]
            trajectories = await asyncio.gather(*(backend.submit(_request(name)) for name in names))
            assert [each.id for each in trajectories] == names

    @asynchronous
    async def test_cancelling_the_call_cancels_the_episode(self, make_backend: Build) -> None:
        """And its clean-up is over when the cancellation comes back."""
        runner = _Waiting()
        async with _started(make_backend(), runner) as backend:
            call = asyncio.ensure_future(backend.submit(_request("one")))
            await runner.begun.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert runner.cleaned == 1, "the episode was not cancelled, or its clean-up was not awaited"

    @asynchronous
    async def test_a_cancelled_rollout_gives_its_place_free(self, make_backend: Build) -> None:
        """Other rollouts go on."""
        runner = _Waiting()
        async with _started(make_backend(), runner) as backend:
            call = asyncio.ensure_future(backend.submit(_request("one")))
            await runner.begun.wait()
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            runner.open.set()
            assert (await backend.submit(_request("two"))).id == "two"

    @asynchronous
    async def test_closing_waits_until_everything_is_cleaned_up(self, make_backend: Build) -> None:
        """Sandboxes of a run that stops must be gone before the process is."""
        runner = _Waiting()
        backend = make_backend()
        await backend.start(runner)
        call = asyncio.ensure_future(backend.submit(_request("one")))
        await runner.begun.wait()
        await backend.close()
        assert runner.cleaned == 1, "close returned before the episode had cleaned up"
        assert isinstance((await asyncio.gather(call, return_exceptions=True))[0], BaseException)

    @asynchronous
    async def test_closing_an_idle_backend_is_quick_and_safe(self, make_backend: Build) -> None:
        """Also one that was never started: a run may fail before."""
        await make_backend().close()
        async with _started(make_backend(), _echo) as backend:
            await backend.submit(_request("one"))

    @asynchronous
    async def test_an_error_of_the_runner_reaches_the_caller(self, make_backend: Build) -> None:
        """And breaks nothing: the next rollout runs."""

        async def picky(request: RolloutRequest) -> Trajectory:
            if request.id == "bad":
                raise ContractError("scripted")
            return await _echo(request)

        async with _started(make_backend(), picky) as backend:
            with pytest.raises(Exception, match="scripted"):
                await backend.submit(_request("bad"))
            assert (await backend.submit(_request("good"))).id == "good"

    @asynchronous
    async def test_its_health_is_numbers(self, make_backend: Build) -> None:
        """Gauges for observers."""
        async with _started(make_backend(), _echo) as backend:
            health = await backend.health()
            assert health and all(math.isfinite(value) for value in health.values()), f"health is {health}"


class _Waiting:
    """A runner whose episodes wait until `open` is set, and whose clean-up takes a while."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.open = asyncio.Event()
        self.cleaned = 0

    async def __call__(self, request: RolloutRequest) -> Trajectory:
        self.begun.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            self.cleaned += 1
            raise
        return await _echo(request)


async def _echo(request: RolloutRequest) -> Trajectory:
    return sample_trajectory(request.id, task=request.task)


def _request(name: str) -> RolloutRequest:
    return RolloutRequest(id=name, task=sample_task(), seed=1, group="group", sampling=Sampling(), env="sample")


@asynccontextmanager
async def _started(backend: ExecutionBackend, runner: EpisodeRunner) -> AsyncIterator[ExecutionBackend]:
    await backend.start(runner)
    try:
        yield backend
    finally:
        await backend.close()
