"""The simulated cluster: its clock, and that what it measures keeps to what is possible."""

import asyncio

import pytest
from experiments.scale.clock import run_virtually
from experiments.scale.simulating import ARMS, Cluster, simulate

SMALL = Cluster(trace="long-tailed", environments=64, groups=8, steps=4, seconds_per_turn=0.1)


async def test_time_passes_on_the_virtual_clock_alone():
    order = []

    async def wait(name, seconds):
        await asyncio.sleep(seconds)
        order.append(name)

    async def both():
        await asyncio.gather(wait("late", 7200), wait("early", 3600))

    _, seconds = await asyncio.to_thread(run_virtually, both())
    assert (order, seconds) == (["early", "late"], 7200)


async def test_waiting_for_what_no_timer_brings_is_an_error():
    async def stuck():
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="no timer"):
        await asyncio.to_thread(run_virtually, stuck())


@pytest.mark.parametrize("arm", ARMS)
def test_no_policy_beats_the_bound_and_all_keep_to_their_staleness(arm):
    found = simulate(arm, SMALL, 0)
    assert 0 < found.efficiency <= 1.15  # the bound is of a mean episode, and these are few
    assert found.staleness <= (1 if arm.startswith("staleness 1") else 2)
    assert (found.staleness == 0) == arm.startswith("synchronous")


def test_equal_seeds_simulate_equal_runs():
    assert simulate("staleness 2, by arrival", SMALL, 1) == simulate("staleness 2, by arrival", SMALL, 1)
