"""What IPA has learnt from rollouts about where to anchor, as it is kept in checkpoints; decides nothing.

A place in an episode is named by the chunks that the expert leaves to the policy: an expert of K chunks,
k of them replayed, leaves K - k. Counted from the end, experts of different length end alike.
"""

import hashlib

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tumbler.contracts.values import JSONObject
from tumbler.errors import RunError
from tumbler.trajectory.record import Trajectory

__all__ = [
    "ALL_TASKS",
    "CrucialChunk",
    "Learnt",
    "Rate",
    "Record",
    "RollbackPlace",
    "StepRate",
    "expert_digest",
    "outcome_of",
    "read_learnt",
]

ALL_TASKS = "*"
"""Stands in `Learnt.crucial` for a task's id where the scope is global."""

_TASKS = 4096
"""Tasks that are remembered, lest tasks that never come again fill every checkpoint."""


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Rate(_Stored):
    """How many rollouts succeeded."""

    @classmethod
    def of(cls, outcomes: str) -> "Rate":
        """Return the rate of outcomes written as 1 and 0."""
        return cls(won=outcomes.count("1"), taken=len(outcomes))

    won: int = 0
    taken: int = 0

    @property
    def share(self) -> float:
        """Return the success rate; 0 without rollouts."""
        return self.won / max(self.taken, 1)


class StepRate(Rate):
    """Those of one step."""

    step: int


class RollbackPlace(_Stored):
    """Where a rollback stands, and what happened there."""

    left: int = 1
    """Chunks that the policy has to do itself."""
    rate: Rate = Field(default_factory=Rate)
    """Of all rollouts from here."""
    recent: str = ""
    """The last rollouts from here, oldest first: 1 for a success, 0 for a failure."""
    after: Rate = Field(default_factory=Rate)
    """Of the last rollouts from the anchor before, which left one chunk less; nothing taken at the beginning."""
    sweep: int = 1
    """How often it has begun at the last chunk."""
    weak: bool = False
    """Whether it left an anchor of this sweep unmastered."""


class CrucialChunk(_Stored):
    """A chunk before which the policy fails and after which it does not."""

    left: int
    """Chunks that an anchor right before it leaves, itself included."""
    chunk: int | None
    """Its index in the task's expert trajectory; None if it stands for experts of any length."""
    before: float
    """Success rate of rollouts that had to do it themselves."""
    after: float
    """Success rate of rollouts to which it was replayed."""


class Record(_Stored):
    """What is known of one task, or of all together."""

    expert: str = ""
    """Digest of the expert trajectory that the rest is about; empty for all tasks together."""
    chunks: int = 0
    """Length of that trajectory, or of the longest one."""
    windows: dict[int, list[StepRate]] = Field(default_factory=dict)
    """Chunks left → outcomes of the last rollouts from there, oldest first."""
    place: RollbackPlace = Field(default_factory=RollbackPlace)
    touched: int = 0
    """The number of the last step that told of it."""

    def rate(self, left: int, period: range | None = None) -> Rate:
        """Return the success rate of the remembered rollouts that had `left` chunks to do, in a period of steps."""
        told = [each for each in self.windows.get(left, ()) if period is None or each.step in period]
        return Rate(won=sum(each.won for each in told), taken=sum(each.taken for each in told))

    def period(self, left: int) -> range:
        """Return the steps from the first to the last of which rollouts with `left` chunks to do are remembered."""
        told = self.windows.get(left)
        return range(told[0].step, told[-1].step + 1) if told else range(0)

    def note(self, left: int, told: StepRate, *, memory: int) -> None:
        """Remember a step's outcomes, and forget those of steps before the last `memory` rollouts."""
        window = self.windows.setdefault(left, [])
        window.append(told)
        while sum(each.taken for each in window[1:]) >= memory:
            window.pop(0)


class Learnt(_Stored):
    """All of it."""

    steps: int = 0
    """Steps observed."""
    shared: Record = Field(default_factory=Record)
    """All tasks together."""
    tasks: dict[str, Record] = Field(default_factory=dict)
    """Task id → what is known of it; empty where the scope is global."""
    crucial: dict[str, list[CrucialChunk]] = Field(default_factory=dict)
    """Task id, or `ALL_TASKS` → crucial chunks in the order in which an episode comes to them."""

    def known(self, task_id: str, expert: Trajectory) -> Record | None:
        """Return what is known of the task, if it is about this very expert."""
        record = self.tasks.get(task_id)
        return record if record is not None and record.expert == expert_digest(expert) else None

    def task(self, task_id: str, expert: Trajectory) -> Record:
        """Return the task's record, for writing.

        A new expert for a task makes its rates and crucial chunks void; a rollback goes on where it
        stands, since it counts from the end.
        """
        if (record := self.known(task_id, expert)) is not None:
            return record
        place = self.tasks[task_id].place if task_id in self.tasks else RollbackPlace()
        self.crucial.pop(task_id, None)
        self.tasks[task_id] = Record(expert=expert_digest(expert), chunks=len(expert.chunks), place=place)
        return self.tasks[task_id]

    def add_crucial(self, key: str, found: CrucialChunk) -> None:
        """Remember a crucial chunk; what was first seen of it stays."""
        known = self.crucial.setdefault(key, [])
        if all(each.left != found.left for each in known):
            known.append(found)
            known.sort(key=lambda each: -each.left)

    def forget_old_tasks(self) -> None:
        """Keep the tasks that were met last."""
        surplus = len(self.tasks) - _TASKS
        for task_id in sorted(self.tasks, key=lambda each: (self.tasks[each].touched, each))[: max(surplus, 0)]:
            del self.tasks[task_id]
            self.crucial.pop(task_id, None)


def outcome_of(trajectory: Trajectory) -> str:
    """Return 1 for a success and 0 for a failure; where the verdict does not say, a positive reward is a success."""
    solved = (trajectory.reward or 0.0) > 0 if trajectory.success is None else trajectory.success
    return "1" if solved else "0"


def expert_digest(expert: Trajectory) -> str:
    """Return a digest of what the expert says, chunk by chunk."""
    text = "\x1f".join(chunk.text for chunk in expert.chunks)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def read_learnt(state: JSONObject) -> Learnt:
    """Return what a checkpoint holds; `{}` is the beginning.

    Raises:
        RunError: It is not what IPA writes.
    """
    try:
        return Learnt.model_validate(state)
    except ValidationError as error:
        raise RunError(
            f"the checkpoint's state of the algorithm ipa cannot be read: {error}; it is of another version, or "
            "was damaged: go on from an earlier checkpoint, or start the run anew"
        ) from error
