"""Which replacements are granted follows from what is refused, never from what finishes first."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from tumbler.run.replacements import ReplacementBudget


async def shared_out(refusals: list[int], delays: list[list[int]], budget: int) -> list[int]:
    """Return how many replacements each place gets whose first `refusals` groups are refused."""
    shares = ReplacementBudget(places=len(refusals), budget=budget)
    granted = [0] * len(refusals)

    async def work(place: int) -> None:
        for refused in range(refusals[place]):
            for _ in range(delays[place][refused]):
                await asyncio.sleep(0)
            turn = await shares.ask(place)
            if not turn:
                return
            assert turn == refused + 1
            granted[place] = turn
        await shares.settle(place)

    await asyncio.wait_for(asyncio.gather(*(work(place) for place in range(len(refusals)))), timeout=20)
    return granted


def in_order(refusals: list[int], budget: int) -> list[int]:
    """Return the same by going through the turns one after the other."""
    granted = [0] * len(refusals)
    for turn in range(1, max(refusals, default=0) + 1):
        for place, wanted in enumerate(refusals):
            if wanted >= turn and sum(granted) < budget:
                granted[place] = turn
    return granted


@given(data=st.data(), refusals=st.lists(st.integers(0, 4), min_size=1, max_size=5), budget=st.integers(0, 10))
def test_the_order_in_which_groups_finish_changes_nothing(
    data: st.DataObject, refusals: list[int], budget: int
) -> None:
    delays = [data.draw(st.lists(st.integers(0, 6), min_size=4, max_size=4)) for _ in refusals]
    assert asyncio.run(shared_out(refusals, delays, budget)) == in_order(refusals, budget)


async def test_a_replacement_starts_while_other_groups_still_run() -> None:
    shares = ReplacementBudget(places=3, budget=3)
    assert await asyncio.wait_for(shares.ask(2), timeout=5) == 1


async def test_one_that_may_be_too_many_waits_for_those_before_it() -> None:
    shares = ReplacementBudget(places=2, budget=1)
    last = asyncio.ensure_future(shares.ask(1))
    await asyncio.sleep(0)
    assert not last.done()
    await shares.settle(0)
    assert await asyncio.wait_for(last, timeout=5) == 1


async def test_without_a_budget_nothing_is_replaced() -> None:
    shares = ReplacementBudget(places=2, budget=0)
    assert await asyncio.wait_for(shares.ask(0), timeout=5) == 0
