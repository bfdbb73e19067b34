"""Trajectory-level IPA as a run sees it: one return for each trajectory. Imports no torch; the loss is in `loss`."""

from typing import TYPE_CHECKING

from tumbler.contracts.algorithm import Group
from tumbler.trajectory.record import Trajectory
from tumbler_algorithms.ipa_trajectory.settings import TrajectoryIPASettings
from tumbler_algorithms.parts.advantages import group_advantages
from tumbler_algorithms.parts.from_start import FromStart
from tumbler_algorithms.parts.rewards import final_reward

if TYPE_CHECKING:
    from tumbler.contracts.batch import LossOutput, TokenBatch

__all__ = ["TrajectoryIPA"]


class TrajectoryIPA(FromStart[TrajectoryIPASettings]):
    """What IPA is compared with in its paper: return and ratio belong to trajectories, the mask to tokens."""

    def credit(self, group: Group) -> list[list[float]]:
        """Return each trajectory's reward for each of its chunks that RL may train, else 0."""
        return group_advantages(group.trajectories, self._settings.baseline, self._reward)

    def _reward(self, trajectory: Trajectory) -> float:
        return final_reward(trajectory, self._settings.failure_reward)

    def loss(self, batch: "TokenBatch") -> "LossOutput":
        """Return the trajectory-level loss (Eq. 4-6) of one micro-batch."""
        from tumbler_algorithms.ipa_trajectory.loss import trajectory_ipa_loss

        return trajectory_ipa_loss(batch, self._settings)
