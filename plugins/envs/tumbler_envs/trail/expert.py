"""The scripted teacher of `trail`: it reads what the shell shows, and errs as often as it is told to.

It knows only what the instruction says; where to go next it learns from the observations. A detour is
a wrong or useless action before the right one: it fails, or is marked as not relevant. It reads a file by
`grep LABEL`, not by `cat`: each command then repeats the label and each answer holds the one right way. With
`cat`, a model of 0.6 M parameters learned to copy but not to choose in 600 steps of 32 demonstrations (5 of 40
trails of 4 steps walked); with `grep` it walked 40 of 40 after 300.
"""

import re
from random import Random

from tumbler.contracts.environment import ExpertAction, Task
from tumbler.contracts.values import ToolCall
from tumbler.seeding import derive_seed
from tumbler_envs.trail.layout import Trail
from tumbler_envs.trail.mistakes import Mistakes
from tumbler_envs.trail.settings import ForkSettings
from tumbler_envs.trail.words import CHOOSE, COMPUTE, KEYS, OPERATORS, READ, UNPACK, VALUE

__all__ = ["TrailExpert"]

_MAX_DETOURS = 2
"""In a row, so that the length of an episode is bounded."""
_MAX_RETRIES = 2
"""Of a right command whose answer makes no sense, after which the expert gives up."""

_SUM = re.compile(rf"{COMPUTE} (\d+) (plus|minus) (\d+)")


class TrailExpert:
    """Walks one trail."""

    def __init__(self, task: Task, *, seed: int, noise: float, tool: str, fork: ForkSettings) -> None:
        """Prepare for the task; `noise` is the probability of a detour in a turn, `tool` the shell's name."""
        trail = Trail.from_task(task)
        self._label = trail.label
        self._key = _choose_key(trail.key, fork, Random(derive_seed("trail-key", task.id, seed)))
        self._output = trail.output
        self._rng = Random(derive_seed("trail-expert", task.id, seed))
        self._noise = noise
        self._tool = tool
        self._command: str | None = f"grep {trail.label} {trail.start}"
        self._started = False
        self._result_is_value = False
        self._detours = 0
        self._retries = 0
        self._previous: str | None = None
        self._mistakes = Mistakes(trail, self._rng)

    def act(self, observation: str) -> ExpertAction | None:
        """Return the next action in the light of what the last one showed, or None at the end."""
        if self._started and self._detours == 0:
            self._advance(observation)
        self._started = True
        if self._command is None:
            return None
        if self._detours < _MAX_DETOURS and self._rng.random() < self._noise:
            self._detours += 1
            command, relevant = self._mistakes.instead_of(self._command, after=self._previous)
        else:
            self._detours = 0
            command, relevant = self._command, True
        return ExpertAction(call=ToolCall(name=self._tool, arguments={"command": command}), relevant=relevant)

    def _advance(self, observation: str) -> None:
        """Work out the command that follows the right one that has just been answered."""
        program = (self._command or "").partition(" ")[0]
        if program == "echo" and observation == "(no output)":
            self._command = None
            return
        read = {"grep": self._after_reading, "tar": self._after_unpacking, "expr": self._after_computing}.get(program)
        following = read(observation) if read else None
        if following is not None:
            self._previous, self._command, self._retries = self._command, following, 0
        elif self._retries == _MAX_RETRIES:
            self._command = None
        else:
            self._retries += 1

    def _after_reading(self, text: str) -> str | None:
        ways = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
        way = ways.get(self._asked(), "")
        target = way.removeprefix(f"{VALUE} ")
        self._result_is_value = target != way
        if match := _SUM.fullmatch(target):
            return f"expr {match[1]} {OPERATORS[match[2]]} {match[3]}"
        if self._result_is_value:
            return self._write(target)
        verb, _, name = target.partition(" ")
        if verb == UNPACK:
            return f"tar xvf {name}"
        if verb == CHOOSE:
            return f"grep {self._key} {name}"
        return self._read(name) if verb == READ else None

    def _after_unpacking(self, text: str) -> str | None:
        return self._read(text) if re.fullmatch(r"[a-z]+", text) else None

    def _after_computing(self, text: str) -> str | None:
        if not text.isdigit():
            return None
        return self._write(text) if self._result_is_value else self._read(text)

    def _asked(self) -> str:
        """Return the label or key that the last right command looked for."""
        return (self._command or "").split(" ")[1]

    def _read(self, name: str) -> str:
        return f"grep {self._label} {name}"

    def _write(self, value: str) -> str:
        return f"echo {value} > {self._output}"


def _choose_key(right: str, fork: ForkSettings, rng: Random) -> str:
    """Return the key to take at the fork, if there is one: at an open one any other than the right, mostly."""
    if not right or not fork.open or rng.random() < fork.share:
        return right
    return rng.choice([key for key in KEYS[: fork.width] if key != right])
