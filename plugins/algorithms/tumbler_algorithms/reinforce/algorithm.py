"""REINFORCE as a run sees it; credit and loss are in the modules beside this one. Imports no torch."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tumbler.contracts.algorithm import Group
from tumbler_algorithms.parts.from_start import FromStart
from tumbler_algorithms.reinforce.credit import batch_credits
from tumbler_algorithms.reinforce.settings import REINFORCESettings

if TYPE_CHECKING:
    from tumbler.contracts.batch import LossOutput, TokenBatch

__all__ = ["REINFORCE"]


class REINFORCE(FromStart[REINFORCESettings]):
    """Policy gradient: every token of a trajectory is worth the trajectory's return, less a baseline."""

    def credit(self, group: Group) -> list[list[float]]:
        """Return what `credit_batch` would, were the group all of the step."""
        return batch_credits([group], self._settings)[0]

    def credit_batch(self, groups: Sequence[Group]) -> list[list[list[float]]]:
        """Return each trajectory's advantage for each of its chunks that RL may train, else 0."""
        return batch_credits(groups, self._settings)

    def loss(self, batch: "TokenBatch") -> "LossOutput":
        """Return the policy-gradient loss of one micro-batch."""
        from tumbler_algorithms.reinforce.loss import reinforce_loss

        return reinforce_loss(batch, self._settings)
