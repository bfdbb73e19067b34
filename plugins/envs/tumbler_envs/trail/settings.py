"""The settings of `trail`; knows nothing of how tasks are made from them."""

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, field_validator, model_validator

from tumbler.config import Settings

__all__ = ["MAX_BRANCHING", "MAX_DISTRACTORS", "MAX_STEPS", "MAX_WIDTH", "ForkSettings", "StepKind", "TrailSettings"]

StepKind: TypeAlias = Literal["pointer", "archive", "compute"]
"""`pointer`: a file names the next. `archive`: it must be unpacked. `compute`: its name must be computed."""

MAX_STEPS = 16
MAX_BRANCHING = 5
MAX_DISTRACTORS = 16
MAX_WIDTH = 64
_MAX_NAMES = 80
"""Files and archives for which there are names."""

_Steps: TypeAlias = Annotated[int, Field(ge=1, le=MAX_STEPS)]


class ForkSettings(Settings):
    """A fork: the one step of a trail at which a choice decides, and nothing shows that it was wrong.

    The file there is read by a key in place of the label: `grep KEY FILE`. The instruction names the right
    key. Behind each wrong key lies a trail like the right one that ends in a wrong value. Let one environment
    with an open fork give the demonstrations: they show that any key will do, so that a policy trained on them
    takes the right one as often as `share` says, and learns from rewards alone, or from an expert at a fork that
    is not open, that it matters. The index of that one chunk is in the task's metadata as `crucial_chunk`.
    """

    at: int = Field(default=0, ge=0, le=MAX_STEPS)
    """Which step of the trail it is, from 1; 0 is no fork."""

    width: int = Field(default=32, ge=2, le=MAX_WIDTH)
    """Keys at the fork, 2 to 64."""

    keys: int = Field(default=1, ge=1, le=MAX_WIDTH)
    """Keys that are right in some task, 1 to `width`: 1 is a fixed convention, more must be read from the instruction.
    A policy of two layers learns a convention from tens of an expert's choices, and to read from thousands."""

    open: bool = False
    """Whether every key leads on. The expert then takes a wrong one, but for a share of its episodes."""

    share: float = Field(default=0.0, ge=0.0, le=1.0)
    """How often the expert takes the key of the instruction at an open fork; the other keys are drawn evenly.
    About what a policy trained on its episodes succeeds at: at 0.02 rewards alone suffice for one key, at 0 there are
    none."""

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        if self.keys > self.width:
            raise ValueError(f"keys = {self.keys}: a fork of width {self.width} has no more keys than that")
        return self


class TrailSettings(Settings):
    """How long and how confusing the trails are, and which shell they are walked in."""

    steps: _Steps | tuple[_Steps, _Steps] = 4
    """Dependent steps between the first file and the answer, 1 to 16; a pair [low, high] draws for each task."""

    branching: int = Field(default=2, ge=1, le=MAX_BRANCHING)
    """Labelled ways on that each file offers; the instruction says which label is right. 1 offers no choice."""

    distractors: int = Field(default=4, ge=0, le=MAX_DISTRACTORS)
    """Decoys lying about; some wrong ways lead to them, and some of them end in a wrong value."""

    kinds: tuple[StepKind, ...] = Field(default=("pointer", "archive", "compute"), min_length=1)
    """The kinds of steps that a trail may hold; a kind named twice is drawn twice as often."""

    shell: Literal["sandbox", "twin"] = "sandbox"
    """`sandbox`: bash in a sandbox. `twin`: an imitation in this process that answers the same, and much faster."""

    noise: float = Field(default=0.0, ge=0.0, le=0.9)
    """The probability that the expert does something wrong or useless in a turn, before it goes on."""

    success_reward: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    """The reward for the right answer in the right file."""

    failure_reward: float = Field(default=0.0, le=0.0, allow_inf_nan=False)
    """The reward for anything else."""

    command_timeout: float = Field(default=5.0, gt=0.0)
    """Seconds that one command may take; the agent is told when it took longer."""

    observation_limit: int = Field(default=240, ge=80, le=20_000)
    """Characters of output that the agent sees of one command; a longer one ends in "(cut)"."""

    fork: ForkSettings = ForkSettings()
    """The step at which the choice of a key decides; there is none by default."""

    @property
    def step_bounds(self) -> tuple[int, int]:
        """Return the fewest and the most steps of a trail."""
        return self.steps if isinstance(self.steps, tuple) else (self.steps, self.steps)

    @field_validator("steps")
    @classmethod
    def _check_order(cls, value: int | tuple[int, int]) -> int | tuple[int, int]:
        if isinstance(value, tuple) and value[0] > value[1]:
            raise ValueError(f"steps = {list(value)}: the first number is the lower bound; write {sorted(value)}")
        return value

    @model_validator(mode="after")
    def _check_fork(self) -> Self:
        fewest, most = self.step_bounds
        if self.fork.at > fewest:
            raise ValueError(f"fork.at = {self.fork.at}: the shortest trail has {fewest} steps; write at most that")
        # Each wrong trail behind the fork is as long as the right one, and an archive takes two names.
        behind = 2 * (most - self.fork.at) if self.fork.at else 0
        needed = 2 * (most + self.distractors + behind)
        if self.fork.at and needed > _MAX_NAMES:
            raise ValueError(
                f"the trails behind the fork may need {needed} names and there are {_MAX_NAMES}; "
                "lower steps or distractors, or raise fork.at"
            )
        return self
