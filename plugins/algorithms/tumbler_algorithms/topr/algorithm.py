"""TOPR as a run sees it: rewards of either sign (arXiv 2503.14286). Imports no torch; the loss is in `loss`."""

from typing import TYPE_CHECKING

from tumbler.contracts.algorithm import Group
from tumbler.trajectory.record import Trajectory
from tumbler_algorithms.parts.advantages import group_advantages
from tumbler_algorithms.parts.from_start import FromStart
from tumbler_algorithms.parts.rewards import final_reward
from tumbler_algorithms.topr.settings import TOPRSettings

if TYPE_CHECKING:
    from tumbler.contracts.batch import LossOutput, TokenBatch

__all__ = ["TOPR"]


class TOPR(FromStart[TOPRSettings]):
    """Tapered off-policy REINFORCE: what succeeded is imitated, what failed counts only while it is likely."""

    def credit(self, group: Group) -> list[list[float]]:
        """Return each trajectory's reward less the baseline for each of its chunks that RL may train, else 0."""
        return group_advantages(group.trajectories, self._settings.baseline, self._reward)

    def _reward(self, trajectory: Trajectory) -> float:
        return final_reward(trajectory, self._settings.failure_reward)

    def loss(self, batch: "TokenBatch") -> "LossOutput":
        """Return the tapered policy-gradient loss of one micro-batch."""
        from tumbler_algorithms.topr.loss import topr_loss

        return topr_loss(batch, self._settings)
