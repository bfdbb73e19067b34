"""IPA as a run sees it: the plan, the credit and the loss of arXiv 2512.24873, each in a module beside this one."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tumbler.contracts.algorithm import Group, PlanState, RolloutPlan, UpdateRule
from tumbler.contracts.environment import Task
from tumbler.contracts.values import JSONObject
from tumbler.trajectory.record import Trajectory
from tumbler_algorithms.ipa.credit import chunk_credits
from tumbler_algorithms.ipa.filters import reject_group, reject_trajectory
from tumbler_algorithms.ipa.resampling import Resampling
from tumbler_algorithms.ipa.settings import IPASettings

if TYPE_CHECKING:
    from tumbler.contracts.batch import LossOutput, TokenBatch

__all__ = ["IPA"]


class IPA:
    """Interaction-level policy optimisation: returns, ratios and masks belong to chunks, not to tokens."""

    def __init__(self, settings: IPASettings) -> None:
        """Keep the settings; nothing is learnt yet of where to anchor."""
        self._settings = settings
        self._resampling = Resampling(settings)

    @property
    def update_rule(self) -> UpdateRule:
        """Say how a batch becomes optimizer steps."""
        settings = self._settings
        return settings.update_rule(reference=settings.needs_reference, entropy=settings.needs_entropy)

    @property
    def tasks_per_step(self) -> int:
        """Return how many tasks `plan` wants to be offered."""
        return self._settings.tasks_per_step

    @property
    def wants_experts(self) -> bool:
        """Say whether some rollouts are to start from anchors."""
        return self._settings.anchors.at_work

    def plan(self, tasks: Sequence[Task], state: PlanState) -> RolloutPlan:
        """Choose the rollouts of the next step (3.2.4.5)."""
        return self._resampling.plan(tasks, state)

    def observe(self, groups: Sequence[Group]) -> Mapping[str, float]:
        """Learn from a step's groups where to anchor, and return metrics of the step."""
        return self._resampling.observe(groups)

    def state(self) -> JSONObject:
        """Return what was learnt from rollouts."""
        return self._resampling.state()

    def restore(self, state: JSONObject) -> None:
        """Go on from what `state` returned."""
        self._resampling.restore(state)

    def reject_trajectory(self, trajectory: Trajectory) -> str:
        """Return why a rollout is to be dropped; "" keeps it."""
        return reject_trajectory(trajectory, self._settings.filter)

    def reject_group(self, group: Group) -> str:
        """Return why a group is to be dropped; "" keeps it."""
        return reject_group(group, self._settings.filter)

    def credit(self, group: Group) -> list[list[float]]:
        """Return the discounted return of each trained chunk (Eq. 7), and the weight of each imitated one."""
        return self._resampling.select_imitated(group, chunk_credits(group.trajectories, self._settings))

    def loss(self, batch: "TokenBatch") -> "LossOutput":
        """Return the chunk-level loss (Eq. 8-10) of one micro-batch."""
        from tumbler_algorithms.ipa.loss import ipa_loss

        return ipa_loss(batch, self._settings)
