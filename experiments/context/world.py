"""The environment of the benchmark: it plays a script, request by request, and judges what was called."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from experiments.context.families import build
from experiments.context.grammar import NOW
from experiments.context.script import Script, Step

from tumbler.contracts.environment import EnvironmentCapabilities, Observation, StepResult, Task, Verdict
from tumbler.contracts.sandbox import Sandbox, SandboxSpec
from tumbler.contracts.values import JSON, JSONObject, ToolCall, ToolSpec
from tumbler.errors import ContractError

__all__ = ["HELPER", "World", "task_of"]

HELPER: Final = "ask_helper"
"""The tool that the scaffold answers with a sub-agent's words; it adds them to the call as `answer`."""
_ARGUMENTS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "next": (),
        "status": (),
        "survey": (),
        "report": ("value", "closing"),
        "read": ("name",),
        "publish": ("documents",),
        "ship": ("subject",),
        "skip": ("subject",),
        "inspect": ("subject",),
        "save": ("subject",),
        "start": ("subject",),
        HELPER: ("subject",),
    }
)


def task_of(family: str, seed: int) -> Task:
    """Return a task of the family; the metadata holds what a control may know, and no policy sees it."""
    script = _script(family, seed)
    metadata: dict[str, JSON] = {"seed": seed, "needed": list(script.needed)}
    return Task(id=f"{family}-{seed}", instruction=script.instruction, metadata=metadata)


class World:
    """Plays the scripts of one family. Every answer of a tool ends with the line that says what is asked for."""

    def __init__(self, family: str) -> None:
        """Wait for `reset`."""
        self._family = family
        self._script: Script | None = None
        self._place = 0
        self._left: list[ToolCall] = []
        self._mistakes: list[JSON] = []

    @property
    def capabilities(self) -> EnvironmentCapabilities:
        """Need nothing."""
        return EnvironmentCapabilities()

    async def tasks(self, split: str, *, count: int, seed: int) -> Sequence[Task]:
        """Return tasks of seeds that follow each other."""
        return [task_of(self._family, seed + index) for index in range(count)]

    def tools(self) -> Sequence[ToolSpec]:
        """Return the tools that the script's requests need, and `status`."""
        names = self._playing().tools | {"next", "report", "status"}
        if self._playing().cards:
            names |= {"read"}
        return [_tool(name) for name in _ARGUMENTS if name in names]

    def sandbox_spec(self, task: Task) -> SandboxSpec | None:
        """Need no sandbox."""
        return None

    async def reset(self, task: Task, *, seed: int, sandbox: Sandbox | None) -> Observation:
        """Begin the script of the task's seed."""
        self._script = _script(self._family, int(str(task.metadata["seed"])))
        self._place, self._mistakes = 0, []
        step = self._script.steps[0]
        self._left = list(step.calls)
        return Observation(text=_joined(step.text, _now(step)))

    async def step(self, call: ToolCall) -> StepResult:
        """Answer a call; one that answers the request, rightly or not, leads on."""
        step = self._step
        if call.name == "read":
            text = self._playing().cards.get(str(call.arguments.get("name")), "There is no such card.")
            if "read" not in step.tools:
                return StepResult(observation=_joined(text, _now(step)))
        elif call.name not in step.tools:
            known = call.name == "status"
            return StepResult(observation=_joined("" if known else "error: not now", _now(step)), errored=not known)
        return self._answer(step, call)

    async def verify(self) -> Verdict:
        """Judge: all requests answered, and those that are scored without a mistake."""
        answered = self._place >= len(self._playing().steps)
        success = answered and not self._mistakes
        details: dict[str, JSON] = {"mistakes": self._mistakes, "answered": self._place}
        return Verdict(reward=float(success), success=success, details=details)

    async def close(self) -> None:
        """Hold nothing."""

    @property
    def _step(self) -> Step:
        return self._playing().steps[self._place]

    def _playing(self) -> Script:
        if self._script is None:
            raise ContractError("the world has no task yet; call reset first")
        return self._script

    def _answer(self, step: Step, call: ToolCall) -> StepResult:
        right = next((each for each in self._left if _equal(each, call)), None)
        if right is None and step.scored:
            self._mistakes.append(f"{step.request}: {call.name} {dict(call.arguments)}")
        taken = right or self._left[0]
        self._left.remove(taken)
        index = step.calls.index(taken)
        brought = step.brings[index] if step.brings else ""
        if call.name == HELPER:
            brought = str(call.arguments.get("answer", ""))
        delay = step.delays[index] if step.delays else 0
        if self._left:
            return StepResult(observation=brought, info={"after": delay})
        return self._lead_on(brought, delay)

    def _lead_on(self, brought: str, delay: int) -> StepResult:
        self._place += 1
        if self._place >= len(self._playing().steps):
            return StepResult(observation=brought, terminated=True)
        step = self._step
        self._left = list(step.calls)
        info: dict[str, JSON] = {"after": delay, "user": step.user}
        return StepResult(observation=_joined(brought, step.text, _now(step)), info=info)


@lru_cache(maxsize=512)
def _script(family: str, seed: int) -> Script:
    """Return a task's script, which no episode changes; every arm plays the same ones."""
    return build(family, seed)


def _equal(wanted: ToolCall, call: ToolCall) -> bool:
    if wanted.name != call.name:
        return False
    return wanted.name == HELPER or dict(wanted.arguments) == dict(call.arguments)


def _now(step: Step) -> str:
    return f"{NOW}{step.request}."


def _joined(*parts: str) -> str:
    return "\n".join(part for part in parts if part)


def _tool(name: str) -> ToolSpec:
    arguments = _ARGUMENTS[name]
    properties: JSONObject = {argument: {"type": "string"} for argument in arguments}
    return ToolSpec(name=name, description="", parameters={"type": "object", "properties": properties})
