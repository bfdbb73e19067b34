"""The task that both sides play, word for word the same: what is asked, answered and earned, and how long it takes.

Knows neither Tumbler nor TRL. A reply is one call of the tool `shell`, whatever it says; the answer is a listing of
fixed length, and the reward depends on all that was said, so that rewards differ within a group.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from random import Random

__all__ = ["LATENCIES", "SYSTEM", "TOOL", "WORDS", "Episode", "Shape", "Waits", "instruction"]

WORDS = tuple(f"{first}{second}" for first in "bdfgklmnprstvz" for second in ("abo", "elu", "iro", "oma", "uni"))
"""What prompts and answers are made of."""

LATENCIES = {"0": (0.0, 0.0), "0.25": (0.25, 0.0), "1-long-tailed": (1.0, 1.0)}
"""Name → mean in seconds, and the sigma of its logarithm."""

TOOL = {
    "type": "function",
    "function": {
        "name": "shell",
        "description": "Runs a command and shows what it prints.",
        "parameters": {
            "type": "object",
            "properties": {"command": {"type": "string", "description": "The command."}},
            "required": ["command"],
        },
    },
}

SYSTEM = (
    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.\n\n# Tools\n\n"
    "You may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
    f"{json.dumps(TOOL)}\n</tools>\n\n"
    "For each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)
"""The system message that the chat template of Qwen 2.5 writes where it is given this tool."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How large a step is."""

    tasks: int = 4
    group: int = 8
    turns: int = 4
    sampled: int = 16
    """Tokens of each reply."""
    answer: int = 24
    """Words of each answer; the chat template adds its frame."""
    instruction: int = 130
    """Words of each task; the system message comes before it."""

    @property
    def trajectories(self) -> int:
        """Return the trajectories of a step."""
        return self.tasks * self.group

    @property
    def sampled_tokens(self) -> int:
        """Return the tokens that a step samples."""
        return self.trajectories * self.turns * self.sampled


def instruction(seed: str, words: int) -> str:
    """Return a task's text."""
    random = Random(seed)
    return " ".join(random.choice(WORDS) for _ in range(words))


class Episode:
    """One attempt at a task."""

    def __init__(self, task: str, shape: Shape) -> None:
        """Begin the task with that text."""
        self._task = task
        self._shape = shape
        self._said: list[str] = []

    @property
    def over(self) -> bool:
        """Return whether all turns were taken."""
        return len(self._said) >= self._shape.turns

    def act(self, command: str) -> str:
        """Return the answer."""
        self._said.append(command)
        return instruction(f"{self._task}/{len(self._said)}", self._shape.answer)

    def reward(self) -> float:
        """Return a number from 0 to 1 that depends on all that was said."""
        digest = hashlib.sha256("\n".join(self._said).encode()).digest()
        return digest[0] / 255


class Waits:
    """How long each call takes, in the order in which calls are made: the sum is the same on both sides."""

    def __init__(self, name: str, seed: int) -> None:
        """Draw from the latency of that name."""
        self._mean, self._sigma = LATENCIES[name]
        self._random = Random(f"waits/{seed}")

    def next(self) -> float:
        """Return the seconds of the next call."""
        if not self._sigma:
            return self._mean
        return self._random.lognormvariate(math.log(self._mean) - self._sigma**2 / 2, self._sigma)
