"""The allocator of cache slots."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tumbler_backends.inference.transformers.slots import SlotPool, common_prefix


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
def test_the_common_prefix_is_the_longest_one(start, left, right):
    left, right = start + left, start + right
    reach = common_prefix(left, right)
    assert left[:reach] == right[:reach]
    assert reach == min(len(left), len(right)) or left[reach] != right[reach]


@given(st.lists(st.tuples(st.sampled_from(["reserve", "keep", "free", "release"]), st.integers(1, 40)), max_size=60))
def test_slots_never_overlap_and_nothing_is_lost(actions):
    pool = SlotPool(100)
    held = []
    for action, number in actions:
        if action == "reserve":
            slot = pool.reserve(number, roomy=2 * number)
            held += [slot] if slot else []
        elif action == "release":
            pool.release(str(number % 5))
        elif held and action == "keep":
            pool.keep(str(number % 5), held.pop(number % len(held)))
        elif held:
            pool.free(held.pop(number % len(held)))
        slots = sorted([*held, *pool.idle()], key=lambda slot: slot.start)
        assert all(one.start + one.capacity <= other.start for one, other in pairwise(slots))
        assert pool.used == sum(slot.capacity for slot in slots)
    for slot in held:
        pool.free(slot)
    pool.clear()
    assert pool.used == 0
    assert pool.reserve(100) is not None


def test_the_slot_unused_longest_makes_room_and_the_spared_one_does_not():
    pool = SlotPool(100)
    slots = {name: pool.reserve(30) for name in "abc"}
    for name in "abc":
        pool.keep(name, slots[name])
    assert pool.reserve(30, sparing=slots["a"]).start == slots["b"].start
    assert pool.take("a") is slots["a"]
    assert pool.take("b") is None
    assert pool.evictions == 1
    assert pool.reserve(100) is None
