"""What IPA has learnt from rollouts about where to anchor, as it is kept in checkpoints; decides nothing.

A place in an episode is named by the chunks that the expert leaves to the policy: an expert of K chunks,
k of them replayed, leaves K - k. Counted from the end, experts of different length end alike.
"""

import hashlib
from dataclasses import dataclass

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
    "Told",
    "expert_digest",
    "outcome_of",
    "read_learnt",
]

ALL_TASKS = "*"
"""Stands in `Learnt.crucial` for a task's id where the scope is global."""

_TASKS = 4096
"""Tasks that are remembered, lest tasks that never come again fill every checkpoint."""


@dataclass(kw_only=True)
class Told:
    """What one step tells of one anchor."""

    outcomes: str = ""
    """Of all its rollouts: 1 for a success, 0 for a failure."""
    groups: int = 0
    """Groups that they came in; one for each task, but for what was refused."""

    @property
    def won(self) -> int:
        """Return how many succeeded."""
        return self.outcomes.count("1")

    @property
    def taken(self) -> int:
        """Return how many there were."""
        return len(self.outcomes)


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
    waited: float = 0.0
    """Rollouts of each task from here, as a mean over the tasks of a step; what patience is counted in."""
    seen: Rate = Field(default_factory=Rate)
    """Of the rollouts from here that were already looked at for a drop since the anchor before."""
    looks: int = 0
    """How often that was done."""
    sweep: int = 1
    """How often it has begun at the last chunk."""
    began: int = 0
    """The step of this sweep's first rollouts; 0 before them."""
    weak: bool = False
    """Whether it left an anchor of this sweep unmastered."""
    resumes: int | None = None
    """The step after which it begins again; None unless it rests."""

    def for_another_expert(self, *, same_length: bool) -> "RollbackPlace":
        """Return what stays with a new expert, which is no part of a comparison with the old one's later anchors.

        Where it has as many chunks, success from here stays too.
        """
        kept = {"left", "sweep", "weak", "began", "resumes", "waited"}
        return RollbackPlace(**self.model_dump(include=kept | {"rate", "recent"} if same_length else kept))


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
    step: int
    """The step in which it was found."""
    confirmed: bool
    """Whether rollouts that were made since have shown it again."""


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

        A new expert for a task makes crucial chunks void. A rollback goes on where it stands, since it counts from
        the end. Success rates stay if the new expert has as many chunks, or nothing could ever be learnt of a
        task whose expert is made anew in each step; else they are void, too.
        """
        if (record := self.known(task_id, expert)) is not None:
            return record
        old, chunks = self.tasks.get(task_id, Record()), len(expert.chunks)
        same_length = old.chunks == chunks
        self.crucial.pop(task_id, None)
        self.tasks[task_id] = Record(
            expert=expert_digest(expert),
            chunks=chunks,
            windows=old.windows if same_length else {},
            place=old.place.for_another_expert(same_length=same_length),
        )
        return self.tasks[task_id]

    def crucial_at(self, key: str, left: int) -> CrucialChunk | None:
        """Return the crucial chunk that leaves so many, itself included, if there is one."""
        return next((each for each in self.crucial.get(key, ()) if each.left == left), None)

    def add_crucial(self, key: str, found: CrucialChunk) -> None:
        """Remember a crucial chunk that is not known yet."""
        self.crucial[key] = sorted([*self.crucial.get(key, ()), found], key=lambda each: -each.left)

    def drop_crucial(self, key: str, left: int) -> None:
        """Forget a crucial chunk."""
        self.crucial[key] = [each for each in self.crucial[key] if each.left != left]
        if not self.crucial[key]:
            del self.crucial[key]

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
