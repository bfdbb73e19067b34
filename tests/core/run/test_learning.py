"""What an algorithm learns is kept as JSON that is no longer its own."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tumbler.contracts.algorithm import Group
from tumbler.errors import ContractError
from tumbler.run.learning import learnt_state, observe, restore


class Learner:
    def __init__(self, learnt: Any) -> None:
        self.learnt = learnt

    def observe(self, groups: Sequence[Group]) -> Mapping[str, float]:
        return {"seen": float(len(groups))}

    def state(self) -> Any:
        return self.learnt

    def restore(self, state: Any) -> None:
        self.learnt = state


class Plain:
    """Learns nothing."""


def test_the_kept_state_does_not_change_with_the_algorithm() -> None:
    learner = Learner({"tasks": [1]})
    kept = learnt_state(learner)  # type: ignore[arg-type]  # only what adaptive algorithms add is asked
    learner.learnt["tasks"].append(2)
    assert kept == {"tasks": [1]}


@pytest.mark.parametrize("learnt", [{"value": object()}, {"value": float("nan")}, {("a", 1): 2}])
def test_a_state_that_is_no_json_is_refused_with_the_algorithms_name(learnt: Any) -> None:
    with pytest.raises(ContractError, match=r"state\(\) of the algorithm Learner cannot be written"):
        learnt_state(Learner(learnt))  # type: ignore[arg-type]  # as above


def test_an_algorithm_that_learns_nothing_has_no_state() -> None:
    plain: Any = Plain()
    assert learnt_state(plain) == {}
    assert observe(plain, []) == {}
    restore(plain, {})
