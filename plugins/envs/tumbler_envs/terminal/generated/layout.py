"""What a generated task lays out, as JSON and as a task with its test; draws nothing."""

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from tumbler.contracts.environment import Task
from tumbler.contracts.values import JSON
from tumbler.errors import ContractError
from tumbler_envs.terminal.task import TEST_SCRIPT, TaskFile, TerminalTask

__all__ = ["Edits"]

_VERIFIER_SECONDS = 30.0

_SCRIPT = """#!/bin/sh
# Compares what lies in the working folder with what was asked for; runs nothing that the agent wrote.
wanted=/tests/wanted
reward=1
text() {
    head -c 65536 "$1" | tr -d '\\000'
}
same() {
    [ -f "$1" ] && [ ! -L "$1" ] && [ "$(text "$wanted/$1")" = "$(text "$1")" ] && return
    echo "$1 is not as asked for"
    reward=0
}
gone() {
    [ ! -e "$1" ] && [ ! -L "$1" ] && return
    echo "$1 is still there"
    reward=0
}
"""
_END = 'echo "$reward" > /logs/verifier/reward.txt\n'


@dataclass(frozen=True, kw_only=True)
class Edits:
    """A task of one or more edits."""

    instruction: str
    kinds: tuple[str, ...]
    """The kind of each edit."""
    files: Mapping[str, str]
    """Path → text, at the start."""
    wanted: Mapping[str, str]
    """Path → text, in the end; what lay there and is not named here must be gone."""
    commands: tuple[str, ...]
    """What an expert runs."""

    @property
    def digest(self) -> str:
        """Return a hash of all that can be seen; equal tasks have equal ones, whatever drew them."""
        return hashlib.sha256(json.dumps([self.instruction, dict(self.files)], sort_keys=True).encode()).hexdigest()

    def to_metadata(self) -> dict[str, JSON]:
        """Return a JSON object; `from_task` gives an equal task back."""
        return {
            "kinds": list(self.kinds),
            "files": dict(self.files),
            "wanted": dict(self.wanted),
            "commands": list(self.commands),
        }

    @classmethod
    def from_task(cls, task: Task) -> "Edits":
        """Return what the task's metadata describes; raise `ContractError` if it does not."""
        fields = cast("dict[str, Any]", dict(task.metadata))
        try:
            lists = {name: tuple(fields[name]) for name in ("kinds", "commands")}
            return cls(**{**fields, **lists, "instruction": task.instruction})
        except (KeyError, TypeError) as error:
            raise ContractError(
                f"task {task.id!r} is no generated task: its metadata does not fit ({error!r}); "
                "give terminal only tasks that its own `tasks` returned, with the same settings"
            ) from error

    def to_task(self, name: str, *, workdir: str) -> TerminalTask:
        """Return it with the test that judges it."""
        wanted = {f"wanted/{path}": _file(text) for path, text in self.wanted.items()}
        return TerminalTask(
            name=name,
            files={path: _file(text) for path, text in self.files.items()},
            tests={TEST_SCRIPT: TaskFile(content=self._script().encode(), executable=True), **wanted},
            workdir=workdir,
            solution=self.commands,
            verifier_timeout=_VERIFIER_SECONDS,
        )

    def _script(self) -> str:
        same = [f"same {shlex.quote(path)}\n" for path in sorted(self.wanted)]
        gone = [f"gone {shlex.quote(path)}\n" for path in sorted(self.files.keys() - self.wanted.keys())]
        return "".join([_SCRIPT, *same, *gone, _END])


def _file(text: str) -> TaskFile:
    return TaskFile(content=text.encode())
