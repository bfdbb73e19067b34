"""PPO as a run sees it: rewards where they were given (arXiv 1707.06347). Imports no torch; the loss is in `loss`."""

from typing import TYPE_CHECKING

from tumbler.contracts.algorithm import Group
from tumbler.trajectory.record import Trajectory
from tumbler_algorithms.parts.from_start import FromStart
from tumbler_algorithms.parts.rewards import chunk_rewards, final_reward, onto_trained
from tumbler_algorithms.ppo.settings import PPOSettings

if TYPE_CHECKING:
    from tumbler.contracts.batch import LossOutput, TokenBatch

__all__ = ["PPO"]


class PPO(FromStart[PPOSettings]):
    """Proximal policy optimisation: a value head says what to expect, and the loss makes advantages of rewards."""

    reads_values = True

    def credit(self, group: Group) -> list[list[float]]:
        """Return the reward of each chunk, the final one being part of the last's; 0 without a verdict.

        Rewards of chunks that RL may not train are credited to the last one before that it may. Groups
        are not compared: the value head is the baseline.
        """
        return [self._rewards(each) if each.judged else [0.0] * len(each.chunks) for each in group.trajectories]

    def _rewards(self, trajectory: Trajectory) -> list[float]:
        final = final_reward(trajectory, self._settings.failure_reward)
        return onto_trained(trajectory, chunk_rewards(trajectory, final, self._settings.turn_rewards))

    def loss(self, batch: "TokenBatch") -> "LossOutput":
        """Return the clipped loss of policy and value head on one micro-batch."""
        from tumbler_algorithms.ppo.loss import ppo_loss

        return ppo_loss(batch, self._settings)
