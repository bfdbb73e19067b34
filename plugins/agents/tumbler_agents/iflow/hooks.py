"""Hooks: commands and functions that are told what happens, and may block or change it.

A hook that fails, hangs or answers nonsense is recorded and changes nothing. Knows no loop.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from tumbler.config import Settings
from tumbler.contracts.conversation import Emit, HookRan
from tumbler.contracts.sandbox import Sandbox
from tumbler.contracts.values import JSON, JSONObject
from tumbler.errors import SandboxDied
from tumbler.plugins.names import did_you_mean
from tumbler_agents.iflow.hook_commands import HookFailed, run_in_sandbox, run_on_host

__all__ = ["HookAnswer", "HookEvent", "HookFunction", "HookRecord", "HookSettings", "HookVerdict", "Hooks"]

HookEvent: TypeAlias = Literal[
    "session_start",
    "session_end",
    "before_model",
    "after_model",
    "before_tool",
    "after_tool",
    "before_compact",
    "after_compact",
    "subagent_start",
    "subagent_stop",
    "stop",
]
HookAnswer: TypeAlias = JSONObject
"""`{"decision": "block", "reason": …}` blocks; `context` is text for the policy; `arguments` replaces a call's
before it is made, `text` what a tool or a sub-agent said, and `prompt` what a sub-agent is asked."""
HookFunction: TypeAlias = Callable[[JSONObject], Awaitable[HookAnswer | None]]

_SECONDS: Final = 30.0
_MARGIN: Final = 5.0
"""Seconds for which a sandbox is left to end a command by itself, whole process tree and all."""
_CHANGES: Final[Mapping[str, type]] = {"arguments": Mapping, "text": str, "prompt": str}
_KEYS: Final[Mapping[str, type]] = {**_CHANGES, "context": str, "reason": str, "decision": str}
_NAMED: Final = ("before_tool", "after_tool", "subagent_start", "subagent_stop")
"""Events that have a name which a matcher is held against."""


class HookSettings(Settings):
    """A command that is run when something happens."""

    event: HookEvent
    """When it is run."""

    command: str = Field(min_length=1)
    """What `sh` runs, with the event as JSON on its standard input. It may answer with JSON on its standard output;
    exit code 2 blocks, with the reason on its standard error."""

    matcher: str = "*"
    """For hooks of tools and sub-agents: a pattern of the name."""

    where: Literal["sandbox", "host"] = "sandbox"
    """Where it is run. On the host it may do whatever the run itself may do."""

    seconds: float = Field(default=_SECONDS, gt=0)
    """After which it is ended, and what it was told goes on as if it were not there."""

    @model_validator(mode="after")
    def _matches_something(self) -> Self:
        if self.matcher != "*" and self.event not in _NAMED:
            raise ValueError(f"{self.event} has no name that a matcher could be about: leave the matcher out")
        return self


@dataclass(frozen=True, kw_only=True)
class HookRecord:
    """What came of one run of a hook."""

    event: HookEvent
    hook: str
    """The command, or the function's name."""
    agent_id: str
    outcome: Literal["passed", "changed", "blocked", "failed", "timed_out"]
    seconds: float
    detail: str = ""


@dataclass(kw_only=True)
class HookVerdict:
    """What all hooks of an event say together."""

    blocked: str | None = None
    """The reason, where one of them blocks."""
    context: list[str] = field(default_factory=list)
    """Texts for the policy."""
    changes: dict[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Hook:
    name: str
    event: HookEvent
    matcher: str
    seconds: float
    run: HookFunction


class Hooks:
    """Runs hooks in order and keeps their records. A later one sees what an earlier one changed."""

    def __init__(
        self,
        commands: Sequence[HookSettings] = (),
        functions: Sequence[tuple[HookEvent, HookFunction]] = (),
        *,
        sandbox: Sandbox | None = None,
        emit: Emit = lambda _event: None,
    ) -> None:
        """Take commands of the settings, and functions of the program that hosts the agent."""
        self.records: list[HookRecord] = []
        self._emit = emit
        self._hooks = [_of_command(each, sandbox) for each in commands]
        self._hooks += [
            _Hook(name=getattr(run, "__name__", "function"), event=event, matcher="*", seconds=_SECONDS, run=run)
            for event, run in functions
        ]

    async def run(
        self, event: HookEvent, data: JSONObject | None = None, *, agent_id: str = "main", name: str = ""
    ) -> HookVerdict:
        """Run the hooks of an event; the first one that blocks is the last one asked."""
        verdict = HookVerdict()
        for hook in self._hooks:
            if hook.event != event or not fnmatchcase(name, hook.matcher):
                continue
            told: JSONObject = {"event": event, "agent": agent_id, **(data or {}), **verdict.changes}
            answer = await self._ask(hook, told, agent_id)
            _take(verdict, answer)
            if verdict.blocked is not None:
                break
        return verdict

    async def _ask(self, hook: _Hook, told: JSONObject, agent_id: str) -> HookAnswer:
        start = time.perf_counter()
        outcome: Literal["passed", "changed", "blocked", "failed", "timed_out"]
        answer: HookAnswer = {}
        detail = ""
        try:
            async with asyncio.timeout(hook.seconds):
                answer = _checked(await hook.run(told))
            outcome = "blocked" if answer.get("decision") == "block" else "changed" if answer else "passed"
            detail = str(answer.get("reason", ""))
        except TimeoutError:
            outcome, detail = "timed_out", f"no answer within {hook.seconds:g} s"
        except SandboxDied:
            raise
        # Hooks are the user's own code: whatever they raise must not end the agent's work.
        except Exception as error:  # noqa: BLE001  # see above
            outcome, detail = "failed", f"{type(error).__name__}: {error}"
        seconds = time.perf_counter() - start
        record = HookRecord(
            event=hook.event, hook=hook.name, agent_id=agent_id, outcome=outcome, seconds=seconds, detail=detail
        )
        self.records.append(record)
        self._emit(HookRan(event=hook.event, name=hook.name, outcome=outcome, detail=detail))
        return answer


def _of_command(settings: HookSettings, sandbox: Sandbox | None) -> _Hook:
    async def run(told: JSONObject) -> HookAnswer | None:
        if settings.where == "host":
            return await run_on_host(settings.command, told)
        if sandbox is None:
            raise HookFailed('there is no sandbox to run it in; set where = "host"')
        return await run_in_sandbox(sandbox, settings.command, told, seconds=settings.seconds)

    return _Hook(
        name=settings.command,
        event=settings.event,
        matcher=settings.matcher,
        seconds=settings.seconds + (_MARGIN if settings.where == "sandbox" else 0.0),
        run=run,
    )


def _checked(answer: HookAnswer | None) -> HookAnswer:
    if answer is None:
        return {}
    if not isinstance(answer, Mapping):
        raise HookFailed(f"a hook answers with a JSON object or nothing, not {type(answer).__name__}")
    if unknown := [key for key in answer if key not in _KEYS]:
        raise HookFailed(f"there is no {unknown[0]!r} in a hook's answer. {did_you_mean(unknown[0], _KEYS)}")
    if answer.get("decision", "block") != "block":
        raise HookFailed(f'the decision {answer["decision"]!r} is none: "block" is, and without one nothing is blocked')
    for key, kind in _KEYS.items():
        if key in answer and not isinstance(answer[key], kind):
            raise HookFailed(f"{key!r} in a hook's answer must be {'an object' if kind is Mapping else 'a text'}")
    return answer


def _take(verdict: HookVerdict, answer: HookAnswer) -> None:
    if answer.get("decision") == "block":
        verdict.blocked = str(answer.get("reason") or "a hook blocks it")
    context = answer.get("context")
    if isinstance(context, str) and context:
        verdict.context.append(context)
    verdict.changes.update((key, answer[key]) for key in _CHANGES if key in answer)
