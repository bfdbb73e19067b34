"""Credit for a step: group by group or all at once, and never of a wrong shape."""

from collections.abc import Sequence

import pytest

from tumbler.contracts.algorithm import Group
from tumbler.errors import ContractError
from tumbler.run.credit import credit_groups
from tumbler.trajectory import Chunk, Component, Header, Segment, Trajectory

COMPONENT = Component(id="c", version="1", settings_hash="0")
Credits = Sequence[Sequence[Sequence[float]]]


def group(name: str, *chunks: int) -> Group:
    return Group(id=name, task_id="t", trajectories=tuple(trajectory(f"{name}/{i}", n) for i, n in enumerate(chunks)))


def trajectory(name: str, chunks: int) -> Trajectory:
    return Trajectory(
        header=Header(id=name, task="t", env=COMPONENT, agent=COMPONENT),
        segments=(Segment(id=0, token_ids=tuple(range(chunks))),),
        chunks=tuple(Chunk(segment=0, start=i, end=i + 1, sampled=False, trainable=False) for i in range(chunks)),
        reward=1.0,
        success=True,
    )


class Grouped:
    """Answers the same for each group."""

    def __init__(self, answer: Sequence[Sequence[float]]) -> None:
        self._answer = answer

    def credit(self, group: Group) -> Sequence[Sequence[float]]:
        return self._answer


class Whole:
    """Answers for the whole step what it is given."""

    def __init__(self, answer: Credits) -> None:
        self._answer = answer

    def credit(self, group: Group) -> Sequence[Sequence[float]]:
        raise AssertionError("credit_batch is asked in its place")

    def credit_batch(self, groups: Sequence[Group]) -> Credits:
        return self._answer


GROUPS = [group("a", 1, 2), group("b", 1)]


def test_an_algorithm_that_looks_across_groups_is_asked_once_for_all() -> None:
    batch = credit_groups(Whole([[[1.0], [2.0, 3.0]], [[4.0]]]), GROUPS)  # type: ignore[arg-type]  # credit is all
    assert [(each.trajectory.id, each.credits) for each in batch] == [
        ("a/0", (1.0,)),
        ("a/1", (2.0, 3.0)),
        ("b/0", (4.0,)),
    ]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([[[1.0], [2.0, 3.0]]], "credited 1 groups of 2"),
        ([[[1.0], [2.0]], [[4.0]]], r"credited \[1, 1\] chunks in group a, whose trajectories have \[1, 2\]"),
        ([[[1.0], [2.0, 3.0]], []], r"credited \[\] chunks in group b"),
    ],
)
def test_a_batch_credit_of_another_shape_is_refused(answer: Credits, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        credit_groups(Whole(answer), GROUPS)  # type: ignore[arg-type]  # credit is all that is asked


def test_a_group_credit_of_another_shape_is_refused() -> None:
    with pytest.raises(ContractError, match=r"credited \[3\] chunks in group b"):
        credit_groups(Grouped([[1.0, 1.0, 1.0]]), GROUPS[1:])  # type: ignore[arg-type]  # credit is all
