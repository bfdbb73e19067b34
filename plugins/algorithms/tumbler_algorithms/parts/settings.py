"""Settings that every algorithm has; knows no algorithm."""

from pydantic import PositiveInt

from tumbler.config import Settings
from tumbler.contracts.algorithm import UpdateRule
from tumbler.contracts.batch import OldPolicySource

__all__ = ["AlgorithmSettings"]


class AlgorithmSettings(Settings):
    """How many rollouts a step takes, and how they become optimizer steps."""

    tasks_per_step: PositiveInt = 8
    """Tasks that each step rolls out."""

    group_size: PositiveInt = 8
    """Rollouts of each task."""

    old_policy: OldPolicySource = "recompute"
    """Where the log-probabilities of the policy that sampled come from."""

    epochs: PositiveInt = 1
    """Passes over a step's trajectories."""

    minibatches: PositiveInt = 1
    """Optimizer steps in one pass."""

    def update_rule(self, *, reference: bool = False, entropy: bool = False, values: bool = False) -> UpdateRule:
        """Return how a batch becomes optimizer steps; the arguments say what else the loss reads."""
        return UpdateRule(
            old_policy=self.old_policy,
            epochs=self.epochs,
            minibatches=self.minibatches,
            reference=reference,
            entropy=entropy,
            values=values,
        )
