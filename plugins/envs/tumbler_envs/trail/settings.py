"""The settings of `trail`; knows nothing of how tasks are made from them."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, field_validator

from tumbler.config import Settings

__all__ = ["MAX_BRANCHING", "MAX_DISTRACTORS", "MAX_STEPS", "StepKind", "TrailSettings"]

StepKind: TypeAlias = Literal["pointer", "archive", "compute"]
"""`pointer`: a file names the next. `archive`: it must be unpacked. `compute`: its name must be computed."""

MAX_STEPS = 16
MAX_BRANCHING = 5
MAX_DISTRACTORS = 16

_Steps: TypeAlias = Annotated[int, Field(ge=1, le=MAX_STEPS)]


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
