"""The environment `guess`: find a number by asking whether it is higher or lower."""

from collections.abc import Sequence
from random import Random

from pydantic import Field
from tumbler.config import Settings
from tumbler.contracts.environment import (
    EnvironmentCapabilities,
    Expert,
    ExpertAction,
    Observation,
    StepResult,
    Task,
    Verdict,
)
from tumbler.contracts.sandbox import Sandbox, SandboxSpec
from tumbler.contracts.values import ToolCall, ToolSpec
from tumbler.seeding import derive_seed

__all__ = ["Guess", "GuessSettings"]

_TOOLS = (
    ToolSpec(
        name="guess",
        description="Says whether the number is higher, lower, or found.",
        parameters={
            "type": "object",
            "properties": {"number": {"type": "integer"}},
            "required": ["number"],
            "additionalProperties": False,
        },
    ),
)


class GuessSettings(Settings):
    """Which numbers there are to guess."""

    highest: int = Field(default=20, ge=2)
    """The number lies between 1 and this."""


class Guess:
    """One episode: the number is in the task's metadata, which the policy never sees."""

    def __init__(self, settings: GuessSettings) -> None:
        """Keep the settings; an episode begins with `reset`."""
        self._settings = settings
        self._number = 0
        self._found = False

    @property
    def capabilities(self) -> EnvironmentCapabilities:
        """Need nothing; equal guesses are always answered equally."""
        return EnvironmentCapabilities()

    async def tasks(self, split: str, *, count: int, seed: int) -> Sequence[Task]:
        """Return tasks with odd numbers for training and even ones for the held-out split."""
        return [self._task(split, f"{split}-{seed}-{index}") for index in range(count)]

    def tools(self) -> Sequence[ToolSpec]:
        """Return `guess`."""
        return _TOOLS

    def sandbox_spec(self, task: Task) -> SandboxSpec | None:
        """Need no sandbox."""
        return None

    async def reset(self, task: Task, *, seed: int, sandbox: Sandbox | None) -> Observation:
        """Take the number; the instruction says the rest."""
        self._number = int(str(task.metadata["number"]))
        self._found = False
        return Observation()

    async def step(self, call: ToolCall) -> StepResult:
        """Answer a guess; what is no guess is answered too, and counts as an error."""
        number = call.arguments.get("number")
        if call.name != "guess":
            return StepResult(observation=f"there is no tool {call.name!r}; use guess", errored=True)
        if not isinstance(number, int) or isinstance(number, bool):
            return StepResult(observation="guess needs the argument number: an integer", errored=True)
        if number == self._number:
            self._found = True
            return StepResult(observation="found", terminated=True)
        return StepResult(observation="higher" if number < self._number else "lower")

    async def verify(self) -> Verdict:
        """Judge whether the number was found."""
        return Verdict(reward=float(self._found), success=self._found)

    async def close(self) -> None:
        """Hold nothing."""

    def expert(self, task: Task, *, seed: int) -> Expert:
        """Return an expert that halves what is left."""
        return _Halving(self._settings.highest)

    def _task(self, split: str, task_id: str) -> Task:
        # Odd and even, so that no number to be judged on was ever trained on.
        numbers = range(1 if split == "train" else 2, self._settings.highest + 1, 2)
        return Task(
            id=task_id,
            instruction=f"Find the number between 1 and {self._settings.highest}.",
            split=split,
            metadata={"number": Random(derive_seed(task_id)).choice(numbers)},
        )


class _Halving:
    """Guesses the middle of what is left."""

    def __init__(self, highest: int) -> None:
        self._low, self._high, self._last = 1, highest, 0

    def act(self, observation: str) -> ExpertAction | None:
        """Return the next guess, or None once the number is found."""
        if observation == "found":
            return None
        if observation == "higher":
            self._low = self._last + 1
        elif observation == "lower":
            self._high = self._last - 1
        self._last = (self._low + self._high) // 2
        return ExpertAction(call=ToolCall(name="guess", arguments={"number": self._last}))
