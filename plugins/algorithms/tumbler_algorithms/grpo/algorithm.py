"""GRPO's group-relative advantage (arXiv 2402.03300, 4.1). Imports no torch; the loss is in `loss`."""

from typing import TYPE_CHECKING

from tumbler.contracts.algorithm import Group
from tumbler.trajectory.record import Trajectory
from tumbler_algorithms.grpo.settings import GRPOSettings
from tumbler_algorithms.parts.advantages import group_advantages
from tumbler_algorithms.parts.baselines import Baseline
from tumbler_algorithms.parts.from_start import FromStart
from tumbler_algorithms.parts.rewards import final_reward

if TYPE_CHECKING:
    from tumbler.contracts.batch import LossOutput, TokenBatch

__all__ = ["GRPO"]


class GRPO(FromStart[GRPOSettings]):
    """Group-relative policy optimisation: a trajectory is worth what it is better than its group."""

    def credit(self, group: Group) -> list[list[float]]:
        """Return Â = (R - mean) / std of each trajectory for each of its chunks that RL may train, else 0.

        The deviation is that of a sample (n - 1). Trajectories without a verdict get 0 and do not count for
        mean and deviation; where all rewards are equal, every advantage is exactly 0.
        """
        baseline: Baseline = "whiten" if self._settings.divide_by_std else "mean"
        return group_advantages(group.trajectories, baseline, self._reward)

    def _reward(self, trajectory: Trajectory) -> float:
        """Return the final reward less the soft overlong penalty of DAPO (arXiv 2503.14476, Eq. 13)."""
        limit, buffer = self._settings.length_limit, self._settings.length_buffer
        if limit is None or buffer is None:
            return final_reward(trajectory)
        excess = trajectory.sampled_tokens - (limit - buffer)
        return final_reward(trajectory) - min(max(excess / buffer, 0.0), 1.0)

    def reject_trajectory(self, trajectory: Trajectory) -> str:
        """Keep every trajectory."""
        return ""

    def reject_group(self, group: Group) -> str:
        """Refuse, with dynamic sampling, a group that has nothing to teach (arXiv 2503.14476, 3.2)."""
        rewards = {final_reward(each) for each in group.trajectories if each.judged}
        if self._settings.dynamic_sampling and len(rewards) < 2:
            return "all rewards are equal"
        return ""

    def loss(self, batch: "TokenBatch") -> "LossOutput":
        """Return the clipped loss of one micro-batch."""
        from tumbler_algorithms.grpo.loss import grpo_loss

        return grpo_loss(batch, self._settings)
