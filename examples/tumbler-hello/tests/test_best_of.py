"""The algorithm `best-of` keeps the contract, and credits the best of a group alone."""

import pytest
from tumbler.contracts.algorithm import Algorithm, Group
from tumbler.testing import AlgorithmSuite, sample_trajectory

from tumbler_hello.best_of import BestOf, BestOfSettings


class TestBestOf(AlgorithmSuite):
    """The contract."""

    @pytest.fixture
    def algorithm(self) -> Algorithm:
        return BestOf(BestOfSettings())


@pytest.mark.parametrize(
    ("rewards", "credited"), [((0.0, 1.0, 0.5), [0, 1, 0]), ((1.0, 1.0, 0.0), [1, 1, 0]), ((1.0, 1.0, 1.0), [0, 0, 0])]
)
def test_the_best_of_a_group_are_credited(rewards: tuple[float, ...], credited: list[int]) -> None:
    trajectories = tuple(sample_trajectory(reward=reward, turns=2) for reward in rewards)
    group = Group(id="g", task_id="t", trajectories=trajectories)
    assert BestOf(BestOfSettings()).credit(group) == [[float(each)] * 2 for each in credited]
