"""Token-level IPA as a run sees it: rewards where they were given. Imports no torch; the loss is in `loss`."""

from typing import TYPE_CHECKING

from tumbler.contracts.algorithm import Group
from tumbler.trajectory.record import Trajectory
from tumbler_algorithms.ipa_token.settings import TokenIPASettings
from tumbler_algorithms.parts.baselines import centre
from tumbler_algorithms.parts.from_start import FromStart
from tumbler_algorithms.parts.rewards import chunk_rewards, final_reward, onto_trained

if TYPE_CHECKING:
    from tumbler.contracts.batch import LossOutput, TokenBatch

__all__ = ["TokenIPA"]


class TokenIPA(FromStart[TokenIPASettings]):
    """IPA whose returns, ratios and masks belong to tokens: the loss makes returns of the chunks' rewards."""

    def credit(self, group: Group) -> list[list[float]]:
        """Return the reward of each chunk, the final one being part of the last's; 0 without a verdict.

        Rewards of chunks that RL may not train are credited to the last one before that it may.
        """
        judged = [each for each in group.trajectories if each.judged]
        rewards = [final_reward(each, self._settings.failure_reward) for each in judged]
        final = iter(centre(rewards, self._settings.baseline))
        return [
            self._rewards(each, next(final)) if each.judged else [0.0] * len(each.chunks) for each in group.trajectories
        ]

    def _rewards(self, trajectory: Trajectory, final: float) -> list[float]:
        return onto_trained(trajectory, chunk_rewards(trajectory, final, self._settings.turn_rewards))

    def loss(self, batch: "TokenBatch") -> "LossOutput":
        """Return the token-level loss of one micro-batch."""
        from tumbler_algorithms.ipa_token.loss import token_ipa_loss

        return token_ipa_loss(batch, self._settings)
