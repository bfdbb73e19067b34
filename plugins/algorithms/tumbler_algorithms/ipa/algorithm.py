"""IPA as a run sees it: the plan, the credit and the loss of arXiv 2512.24873, each in a module beside this one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tumbler.contracts.algorithm import Group, PlanState, RolloutPlan, UpdateRule
from tumbler.contracts.environment import Task
from tumbler_algorithms.ipa.credit import chunk_credits
from tumbler_algorithms.ipa.plan import plan_rollouts
from tumbler_algorithms.ipa.settings import IPASettings

if TYPE_CHECKING:
    from tumbler.contracts.batch import LossOutput, TokenBatch

__all__ = ["IPA"]


class IPA:
    """Interaction-level policy optimisation: returns, ratios and masks belong to chunks, not to tokens."""

    def __init__(self, settings: IPASettings) -> None:
        """Keep the settings; there is no other state."""
        self._settings = settings

    @property
    def update_rule(self) -> UpdateRule:
        """Say how a batch becomes optimizer steps."""
        return UpdateRule(
            old_policy=self._settings.old_policy,
            epochs=self._settings.epochs,
            minibatches=self._settings.minibatches,
        )

    @property
    def tasks_per_step(self) -> int:
        """Return how many tasks `plan` wants to be offered."""
        return self._settings.tasks_per_step

    @property
    def wants_experts(self) -> bool:
        """Say whether some rollouts are to start from anchors."""
        return self._settings.anchors.share > 0

    def plan(self, tasks: Sequence[Task], state: PlanState) -> RolloutPlan:
        """Choose the rollouts of the next step (3.2.4.5)."""
        return plan_rollouts(tasks, state, self._settings)

    def credit(self, group: Group) -> list[list[float]]:
        """Return the discounted return of each chunk (Eq. 7)."""
        return chunk_credits(group.trajectories, self._settings)

    def loss(self, batch: "TokenBatch") -> "LossOutput":
        """Return the chunk-level loss (Eq. 8-10) of one micro-batch."""
        from tumbler_algorithms.ipa.loss import ipa_loss

        return ipa_loss(batch, self._settings)
