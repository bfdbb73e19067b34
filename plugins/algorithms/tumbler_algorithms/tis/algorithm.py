"""TIS as a run sees it: rewards against the group. Imports no torch; the loss is in `loss`."""

from typing import TYPE_CHECKING

from tumbler.contracts.algorithm import Group
from tumbler.trajectory.record import Trajectory
from tumbler_algorithms.parts.advantages import group_advantages
from tumbler_algorithms.parts.from_start import FromStart
from tumbler_algorithms.parts.rewards import final_reward
from tumbler_algorithms.tis.settings import TISSettings

if TYPE_CHECKING:
    from tumbler.contracts.batch import LossOutput, TokenBatch

__all__ = ["TIS"]


class TIS(FromStart[TISSettings]):
    """Policy gradient with truncated importance weights, which no token's gradient is ever lost to."""

    def credit(self, group: Group) -> list[list[float]]:
        """Return each trajectory's reward less the baseline for each of its chunks that RL may train, else 0."""
        return group_advantages(group.trajectories, self._settings.baseline, self._reward)

    def _reward(self, trajectory: Trajectory) -> float:
        return final_reward(trajectory, self._settings.failure_reward)

    def loss(self, batch: "TokenBatch") -> "LossOutput":
        """Return the weighted policy-gradient loss of one micro-batch."""
        from tumbler_algorithms.tis.loss import tis_loss

        return tis_loss(batch, self._settings)
