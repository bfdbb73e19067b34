"""The suite of execution passes a sound implementation, and catches each fault with the right test."""

import asyncio

import pytest

from tumbler.testing import (
    ExecutionSuite,
)
from tumbler_backends.execution.local.backend import LocalExecution
from tumbler_backends.execution.local.settings import LocalSettings


class Local(LocalExecution):
    def __init__(self):
        super().__init__(LocalSettings())


async def forgets_the_episode(self, request):
    return await asyncio.shield(asyncio.ensure_future(self._runner(request)))


async def always_the_first(self, request):
    self.first = self.__dict__.get("first") or await self._runner(request)
    return self.first


async def closes_at_once(self):
    for task in self._in_flight:
        task.cancel()


async def locks_for_ever(self, request):
    self.lock = self.__dict__.get("lock") or asyncio.Lock()
    await asyncio.wait_for(self.lock.acquire(), 0.2)
    result = await self._runner(request)
    self.lock.release()
    return result


async def swallows_errors(self, request):
    from tumbler.testing import sample_trajectory

    try:
        return await self._runner(request)
    except Exception:
        return sample_trajectory(request.id)


async def no_health(self):
    return {}


EXECUTIONS = {
    "capacity": ({"capacity": 0}, "test_it_takes_at_least_one_rollout"),
    "shielded": ({"submit": forgets_the_episode}, "test_cancelling_the_call_cancels_the_episode"),
    "mixed up": ({"submit": always_the_first}, "test_each_caller_gets_its_own_rollout"),
    "hasty": ({"close": closes_at_once}, "test_closing_waits_until_everything_is_cleaned_up"),
    "locked": ({"submit": locks_for_ever}, "test_a_cancelled_rollout_gives_its_place_free"),
    "swallows": ({"submit": swallows_errors}, "test_an_error_of_the_runner_reaches_the_caller"),
    "health": ({"health": no_health}, "test_its_health_is_numbers"),
}


def test_the_execution_suite_passes_a_sound_backend(caught):
    assert caught(ExecutionSuite, make_backend=Local) == set()


@pytest.mark.parametrize("fault", EXECUTIONS)
def test_the_execution_suite_catches(caught, broken, fault):
    methods, expected = EXECUTIONS[fault]
    assert expected in caught(ExecutionSuite, make_backend=broken(Local, methods))
