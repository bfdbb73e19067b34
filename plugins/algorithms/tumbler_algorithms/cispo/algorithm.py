"""CISPO's group-relative advantage (arXiv 2506.13585, 3.1). Imports no torch; the loss is in `loss`."""

from typing import TYPE_CHECKING

from tumbler.contracts.algorithm import Group
from tumbler_algorithms.cispo.settings import CISPOSettings
from tumbler_algorithms.parts.advantages import group_advantages
from tumbler_algorithms.parts.from_start import FromStart

if TYPE_CHECKING:
    from tumbler.contracts.batch import LossOutput, TokenBatch

__all__ = ["CISPO"]


class CISPO(FromStart[CISPOSettings]):
    """Clipped importance-weight policy optimisation: GRPO's advantage; the weight is clipped, not the update."""

    def credit(self, group: Group) -> list[list[float]]:
        """Return Â = (R - mean) / std of each trajectory for each of its chunks that RL may train, else 0."""
        return group_advantages(group.trajectories, "whiten" if self._settings.divide_by_std else "mean")

    def loss(self, batch: "TokenBatch") -> "LossOutput":
        """Return the weighted policy-gradient loss of one micro-batch."""
        from tumbler_algorithms.cispo.loss import cispo_loss

        return cispo_loss(batch, self._settings)
