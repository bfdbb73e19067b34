"""GSPO's group-relative advantage (arXiv 2507.18071, Eq. 6). Imports no torch; the loss is in `loss`."""

from typing import TYPE_CHECKING

from tumbler.contracts.algorithm import Group
from tumbler_algorithms.gspo.settings import GSPOSettings
from tumbler_algorithms.parts.advantages import group_advantages
from tumbler_algorithms.parts.from_start import FromStart

if TYPE_CHECKING:
    from tumbler.contracts.batch import LossOutput, TokenBatch

__all__ = ["GSPO"]


class GSPO(FromStart[GSPOSettings]):
    """Group sequence policy optimisation: GRPO's advantage, with one ratio for each whole trajectory."""

    def credit(self, group: Group) -> list[list[float]]:
        """Return Â = (R - mean) / std of each trajectory for each of its chunks that RL may train, else 0."""
        return group_advantages(group.trajectories, "whiten" if self._settings.divide_by_std else "mean")

    def loss(self, batch: "TokenBatch") -> "LossOutput":
        """Return the clipped sequence-level loss of one micro-batch."""
        from tumbler_algorithms.gspo.loss import gspo_loss

        return gspo_loss(batch, self._settings)
