"""What an algorithm is: which rollouts to ask for, what each chunk is worth, and the loss."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from tumbler.contracts.batch import LossOutput, OldPolicySource, TokenBatch
from tumbler.contracts.environment import Task
from tumbler.contracts.values import JSONObject
from tumbler.trajectory.record import Anchor, Trajectory

__all__ = [
    "AdaptiveAlgorithm",
    "Algorithm",
    "BatchCredit",
    "FilteringAlgorithm",
    "Group",
    "PlanState",
    "PlannedGroup",
    "RolloutPlan",
    "UpdateRule",
]


@dataclass(frozen=True, kw_only=True)
class UpdateRule:
    """How one batch of trajectories becomes optimizer steps."""

    old_policy: OldPolicySource = "recompute"
    epochs: int = 1
    """Passes over the batch."""
    minibatches: int = 1
    """Optimizer steps in one pass; whole trajectories are dealt out by their token counts."""
    reference: bool = False
    """Whether the loss reads `TokenBatch.reference_logprobs`, those of the weights with which the phase began."""
    entropy: bool = False
    """Whether the loss reads `TokenBatch.entropies`."""
    values: bool = False
    """Whether the loss reads `TokenBatch.values`, so that the backend trains a value head beside the policy."""


@dataclass(frozen=True, kw_only=True)
class PlanState:
    """What a plan may depend on."""

    step: int
    """The RL step that is planned, from 0."""
    seed: int
    """A seed of this step's own: equal seeds must give equal plans."""
    experts: Callable[[str], Trajectory | None] = lambda _task_id: None
    """The expert trajectory of a task, if one is known; only tasks of this step's list have one."""
    history: Mapping[str, float] = field(default_factory=dict)
    """The last step's metrics."""


@dataclass(frozen=True, kw_only=True)
class PlannedGroup:
    """`size` rollouts of one task from one anchor; None starts at the beginning."""

    task: Task
    size: int
    anchor: Anchor | None = None


@dataclass(frozen=True, kw_only=True)
class RolloutPlan:
    """The rollouts of one step."""

    groups: tuple[PlannedGroup, ...]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Trajectories of one task and one anchor that are compared with each other."""

    id: str
    task_id: str
    trajectories: tuple[Trajectory, ...]
    anchor: Anchor | None = None


@runtime_checkable
class Algorithm(Protocol):
    """A policy-optimisation algorithm, built from its settings; it holds no state between steps."""

    @property
    def update_rule(self) -> UpdateRule:
        """Say how a batch becomes optimizer steps."""
        ...

    @property
    def tasks_per_step(self) -> int:
        """Return how many tasks `plan` wants to be offered."""
        ...

    @property
    def wants_experts(self) -> bool:
        """Say whether `plan` needs expert trajectories."""
        ...

    def plan(self, tasks: Sequence[Task], state: PlanState) -> RolloutPlan:
        """Choose the rollouts of the next step."""
        ...

    def credit(self, group: Group) -> Sequence[Sequence[float]]:
        """Return one weight for each chunk of each trajectory of a full group. Imports no torch."""
        ...

    def loss(self, batch: TokenBatch) -> LossOutput:
        """Return the loss of one micro-batch in torch."""
        ...


@runtime_checkable
class BatchCredit(Protocol):
    """Optional: an algorithm whose credit looks across groups; it is asked in place of `credit`."""

    def credit_batch(self, groups: Sequence[Group]) -> Sequence[Sequence[Sequence[float]]]:
        """Return, for each group, what `credit` would return for it, given all groups of the step."""
        ...


@runtime_checkable
class AdaptiveAlgorithm(Protocol):
    """Optional: an algorithm that learns from finished rollouts what to plan next.

    The run asks for `state` with each checkpoint and gives it back before it goes on from there; what is
    planned may depend on nothing else that changes.
    """

    def observe(self, groups: Sequence[Group]) -> Mapping[str, float]:
        """Take note of a step's groups, before they are trained, and return metrics of the step.

        They come in the order of the plan. Groups that were refused are among them, each before the one that
        replaced it; trajectories that were dropped are not.
        """
        ...

    def state(self) -> JSONObject:
        """Return everything that was learnt from rollouts, as JSON."""
        ...

    def restore(self, state: JSONObject) -> None:
        """Go on from what `state` returned; from `{}`, at the beginning."""
        ...


@runtime_checkable
class FilteringAlgorithm(Protocol):
    """Optional: an algorithm that refuses rollouts; the run rolls others in their place, up to its bounds.

    What takes the place of a group is what `plan` answers for one task that the step has not seen.
    """

    def reject_trajectory(self, trajectory: Trajectory) -> str:
        """Return why a judged trajectory is to be dropped, and rolled again from the same state; "" keeps it."""
        ...

    def reject_group(self, group: Group) -> str:
        """Return why a whole group is to be dropped, and replaced by one of another task; "" keeps it."""
        ...
