"""Asks the algorithm what each chunk of a step is worth, and checks the shape of the answer."""

from collections.abc import Sequence

from tumbler.contracts.algorithm import Algorithm, BatchCredit, Group
from tumbler.contracts.batch import CreditedTrajectory
from tumbler.errors import ContractError

__all__ = ["credit_groups"]


def credit_groups(algorithm: Algorithm, groups: Sequence[Group]) -> list[CreditedTrajectory]:
    """Return the groups' trajectories with their credit, in order.

    An algorithm with `credit_batch` is asked once for all groups. Raises `ContractError` if an answer does
    not have one figure for each chunk.
    """
    if isinstance(algorithm, BatchCredit):
        credits_of = algorithm.credit_batch(groups)
        if len(credits_of) != len(groups):
            raise ContractError(
                f"credit_batch of the algorithm credited {len(credits_of)} groups of {len(groups)}; it must return "
                "one list for each group, in their order"
            )
    else:
        credits_of = [algorithm.credit(group) for group in groups]
    batch: list[CreditedTrajectory] = []
    for group, credited in zip(groups, credits_of, strict=True):
        _check_shape(group, credited)
        batch.extend(
            CreditedTrajectory(trajectory=trajectory, credits=tuple(each))
            for trajectory, each in zip(group.trajectories, credited, strict=True)
        )
    return batch


def _check_shape(group: Group, credited: Sequence[Sequence[float]]) -> None:
    shape = [len(each) for each in credited]
    expected = [len(each.chunks) for each in group.trajectories]
    if shape != expected:
        raise ContractError(
            f"the algorithm credited {shape} chunks in group {group.id}, whose trajectories have {expected}"
        )
