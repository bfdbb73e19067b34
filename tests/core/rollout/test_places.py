"""Places for rollouts: never more than there are, the lowest rank first, then whoever is nearest to completion."""

import asyncio

from tumbler.rollout.places import Places, Standing


async def occupy(places: Places, standing: Standing, name: str, order: list[str], until: asyncio.Event) -> None:
    async with places.hold(standing):
        order.append(name)
        await until.wait()


async def served(*waiting: tuple[str, Standing]) -> list[str]:
    """Return in which order those who wait get a single place."""
    places, order = Places(1), list[str]()
    free = asyncio.Event()
    first = asyncio.create_task(occupy(places, Standing(rank=0, left=1), "first", order, free))
    await asyncio.sleep(0)
    others = [asyncio.create_task(occupy(places, standing, name, order, free)) for name, standing in waiting]
    await asyncio.sleep(0)
    free.set()
    await asyncio.gather(first, *others)
    return order[1:]


async def test_the_lowest_rank_is_served_first_then_the_group_with_least_left() -> None:
    new, old, nearly = Standing(rank=2, left=1), Standing(rank=1, left=5), Standing(rank=1, left=2)
    assert await served(("new", new), ("old", old), ("nearly", nearly)) == ["nearly", "old", "new"]


async def test_within_a_group_they_are_served_in_the_order_in_which_they_came() -> None:
    group = Standing(rank=0, left=3)
    assert await served(("a", group), ("b", group), ("c", group)) == ["a", "b", "c"]


async def test_what_is_left_counts_when_a_place_falls_free_and_not_when_one_asks() -> None:
    places, order = Places(1), list[str]()
    free, far, near = asyncio.Event(), Standing(rank=0, left=2), Standing(rank=0, left=3)
    tasks = [asyncio.create_task(occupy(places, Standing(rank=0, left=1), "first", order, free))]
    await asyncio.sleep(0)
    tasks += [
        asyncio.create_task(occupy(places, each, name, order, free)) for name, each in (("far", far), ("near", near))
    ]
    await asyncio.sleep(0)
    places.finished(near)
    places.finished(near)
    free.set()
    await asyncio.gather(*tasks)
    assert order == ["first", "near", "far"]


async def test_whoever_leaves_the_queue_and_comes_again_stands_behind_those_of_equal_standing() -> None:
    places, order, free = Places(1), list[str](), asyncio.Event()
    again, other = Standing(rank=0, left=2), Standing(rank=0, left=2)
    tasks = [asyncio.create_task(occupy(places, Standing(rank=0, left=1), "first", order, free))]
    await asyncio.sleep(0)
    gone = asyncio.create_task(occupy(places, again, "gone", order, free))
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(occupy(places, other, "other", order, free)))
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    tasks.append(asyncio.create_task(occupy(places, again, "again", order, free)))
    await asyncio.sleep(0)
    free.set()
    await asyncio.gather(*tasks)
    assert order == ["first", "other", "again"]


async def test_no_place_is_lost_when_those_who_wait_or_have_just_been_served_are_cancelled() -> None:
    places, order, free = Places(2), list[str](), asyncio.Event()
    standing = Standing(rank=0, left=9)
    tasks = [asyncio.create_task(occupy(places, standing, str(number), order, free)) for number in range(8)]
    await asyncio.sleep(0)
    for number in (0, 3, 2):  # one that holds a place, one that waits, and the one that gets the first one's
        tasks[number].cancel()
    await asyncio.gather(*tasks[:4:2], tasks[3], return_exceptions=True)
    free.set()
    await asyncio.wait_for(asyncio.gather(*(tasks[number] for number in (1, 4, 5, 6, 7))), 5)
    assert sorted(order) == ["0", "1", "4", "5", "6", "7"]
    async with asyncio.timeout(5), places.hold(standing), places.hold(standing):
        assert len(order) == 6
