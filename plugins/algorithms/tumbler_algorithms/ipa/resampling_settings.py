"""Settings of initialised resampling and of what is refused; knows neither loss nor credit."""

from typing import Literal, TypeAlias

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from tumbler.config import Settings

__all__ = ["AnchorSettings", "Choice", "FilterSettings", "Imitation", "Mode", "Scope"]

Mode: TypeAlias = Literal["parallel", "rollback", "none"]
Choice: TypeAlias = Literal["uniform", "random", "success-frontier"]
Scope: TypeAlias = Literal["task", "global"]
Imitation: TypeAlias = Literal["all", "crucial"]


class AnchorSettings(Settings):
    """Initialised resampling: rollouts that start inside an expert's trajectory (3.2.4.5)."""

    mode: Mode = "parallel"
    """`parallel` rolls out from several anchors at once. `rollback` has one anchor, before the last chunk at
    first, and moves it back towards the start as the rest is mastered. `none` asks for no expert at all."""

    share: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of a step's tasks that start from anchors, on average. 0 asks for no expert at all, which is
    what an environment without an expert needs."""

    choice: Choice = "uniform"
    """Parallel anchors: evenly spaced over the expert's chunks; drawn anew in each step; or drawn where
    about half of the rollouts succeed, the weight being p(1-p) for a success rate of p."""

    per_task: PositiveInt = 2
    """Parallel anchors on one expert trajectory; a short one has only as many as it has chunks after the first.
    A rollback's one anchor has as many times more rollouts."""

    group_size: PositiveInt = 4
    """Rollouts from each anchor."""

    scope: Scope = "global"
    """What is learnt from rollouts is kept for each `task`, which needs tasks that come again, or is `global`:
    one figure for each number of chunks that the expert leaves to the policy, whatever the task."""

    rollouts: PositiveInt = 8
    """Rollouts from an anchor that make a success rate: the last so many decide whether a rollback moves on,
    and neither mode calls a chunk crucial on fewer."""

    threshold: float = Field(default=0.75, gt=0.0, le=1.0)
    """Success rate at which the rest of the episode counts as mastered, so that a rollback moves on."""

    patience: NonNegativeInt = 128
    """Rollouts of one task from one anchor after which a rollback leaves it unmastered; 0 waits for mastery for
    ever. At least `rollouts` otherwise. Tasks that roll back together, in the global scope, have as many each."""

    sweeps: PositiveInt = 4
    """How often in a row a rollback goes back from the last chunk while it has to leave anchors unmastered. Then
    the task gets whole episodes all the same, for some time."""

    retry_share: float = Field(default=0.25, ge=0.0, le=1.0)
    """Share of the steps that a rollback may take for further sweeps after that, each one after a rest in which the
    task gets whole episodes: three times as long as the last sweep took, with 0.25. 0 rests for ever."""

    dip: float = Field(default=0.5, gt=0.0, le=1.0)
    """By how much the success rate must drop from one anchor to the one before it, for the chunk between
    them to be crucial. The drop must also be significant, by three standard errors."""

    memory: PositiveInt = 32
    """Rollouts of one anchor that are remembered; older ones tell of a policy that is gone. At least `rollouts`
    with parallel anchors, which are compared by what is remembered."""

    imitate: Imitation = "all"
    """Which replayed chunks the imitation term of Eq. 10 is for: all of them, or those found crucial."""

    @model_validator(mode="after")
    def _check_patience(self) -> "AnchorSettings":
        if 0 < self.patience < self.rollouts:
            raise ValueError(
                f"patience = {self.patience} ends before {self.rollouts} rollouts make a success rate; "
                "set it to at least `rollouts`, or to 0 for no end"
            )
        return self

    @model_validator(mode="after")
    def _check_memory(self) -> "AnchorSettings":
        if self.mode == "parallel" and self.memory < self.rollouts:
            raise ValueError(
                f"memory = {self.memory} forgets rollouts before {self.rollouts} of them make a success rate, so that "
                "no chunk would ever be crucial; set it to at least `rollouts`"
            )
        return self

    @property
    def at_work(self) -> bool:
        """Say whether some rollouts are to start from anchors."""
        return self.mode != "none" and self.share > 0


class FilterSettings(Settings):
    """Rollouts that are dropped and rolled again, up to the run's bounds. Nothing is dropped by default.

    A rollout that is dropped for what the policy did teaches it nothing, not even to avoid it.
    """

    illegal_calls: NonNegativeInt = 0
    """Drop a rollout in which so many turns in a row made a malformed or failing call. 0 drops none."""

    repeated_illegal: NonNegativeInt = 0
    """Drop a rollout that made one and the same malformed or failing call so many times. 0 drops none."""

    flat_groups: bool = False
    """Drop a group whose rewards are all equal (dynamic sampling, arXiv 2503.14476)."""

    truncated: bool = False
    """Drop a rollout that a limit cut off, such as that of turns."""
