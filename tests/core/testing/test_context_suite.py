"""The suite of context strategies passes a sound implementation, and catches each fault with the right test."""

import random

import pytest

from tumbler.contracts.context import Drop, Plan, StrategyCaps
from tumbler.testing import (
    ContextStrategySuite,
)


class Window:
    """Keeps the last four entries."""

    caps = StrategyCaps(bounded=True, rewrites="every_turn")

    def start(self, task, rng):
        return {"dropped": 0}

    async def plan(self, view, budget, state, why):
        free = [entry for entry in view.entries if not entry.pinned]
        state["dropped"] += len(free[:-4])
        return Plan(edits=[Drop(ids=tuple(entry.id for entry in free[:-4]))])


async def drops_everything(self, view, budget, state, why):
    return Plan(edits=[Drop(ids=tuple(entry.id for entry in view.entries))])


async def drops_nothing(self, view, budget, state, why):
    return Plan()


async def drops_at_random(self, view, budget, state, why):
    return Plan(edits=[Drop(ids=tuple(e.id for e in view.entries if not e.pinned and random.random() < 0.5))])


async def keeps_a_set(self, view, budget, state, why):
    state["seen"] = {1, 2}
    return Plan()


async def remembers_itself(self, view, budget, state, why):
    self.turns = self.__dict__.get("turns", 0) + 1
    free = [entry for entry in view.entries if not entry.pinned]
    return Plan(edits=[Drop(ids=tuple(entry.id for entry in free[: self.turns % 3]))])


async def remembers_identity(self, view, budget, state, why):
    memory = self.__dict__.setdefault("memory", {})
    memory[id(state)] = memory.get(id(state), 0) + 1
    free = [entry for entry in view.entries if not entry.pinned]
    return Plan(edits=[Drop(ids=tuple(entry.id for entry in free[: memory[id(state)]]))])


SHARED_STATE = {"dropped": 0}

STRATEGIES = {
    "caps": ({"caps": None}, "test_it_says_what_it_promises"),
    "shared state": (
        {"start": lambda self, task, rng: SHARED_STATE},
        "test_its_state_is_json_and_depends_on_the_seed_alone",
    ),
    "pinned": ({"plan": drops_everything}, "test_its_edits_can_be_carried_out"),
    "overflow": ({"plan": drops_nothing}, "test_a_bounded_strategy_never_overflows"),
    "random": ({"plan": drops_at_random}, "test_a_deterministic_strategy_repeats_itself"),
    "a set": ({"plan": keeps_a_set}, "test_its_state_stays_json"),
    "claims no rewrites": (
        {"caps": StrategyCaps(bounded=True)},
        "test_a_strategy_that_never_rewrites_only_lets_the_view_grow",
    ),
    "remembers": ({"plan": remembers_itself}, "test_an_instance_keeps_no_state"),
    "remembers by identity": ({"plan": remembers_identity}, "test_a_saved_state_goes_on_as_before"),
}


def test_the_context_suite_passes_a_sound_strategy(caught):
    assert caught(ContextStrategySuite, strategy=Window()) == set()


@pytest.mark.parametrize("fault", STRATEGIES)
def test_the_context_suite_catches(caught, broken, fault):
    methods, expected = STRATEGIES[fault]
    assert expected in caught(ContextStrategySuite, strategy=broken(Window, methods)())
