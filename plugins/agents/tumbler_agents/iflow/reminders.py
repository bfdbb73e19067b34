"""Short reminders that go along with the newest answer or user message; knows no conversation."""

import re
from collections.abc import Sequence
from typing import Final

from pydantic import Field

from tumbler.config import Settings
from tumbler.errors import SandboxError
from tumbler_agents.iflow.loops import LoopGuard
from tumbler_agents.iflow.todo import TodoList
from tumbler_agents.tools.checked import Refusal
from tumbler_agents.tools.workplace import Workplace

__all__ = ["ReminderSettings", "Reminders", "reminder", "without_reminders"]

_REMINDER: Final = re.compile(r"<system-reminder>\n.*?\n</system-reminder>", re.DOTALL)


class ReminderSettings(Settings):
    """What the agent is reminded of. Each is off at 0."""

    todo_after: int = Field(default=8, ge=0)
    """Model calls without a look at the todo list after which the agent is reminded of it."""

    turns_left: int = Field(default=3, ge=0)
    """Model calls that are left when the agent is told so."""

    changed_files: int = Field(default=5, ge=0)
    """Of so many files that were read last, the agent is told when something else has changed them."""

    repeats: int = Field(default=3, ge=0)
    """Rounds of the same calls with the same results after which the agent is told so."""


class Reminders:
    """What is due after a turn of one agent."""

    def __init__(
        self,
        settings: ReminderSettings,
        *,
        guard: LoopGuard,
        todo: TodoList | None = None,
        place: Workplace | None = None,
        told_of: Sequence[str] = (),
    ) -> None:
        """Watch these; `todo` is None for agents without a todo list, `place` for those without a sandbox.

        `told_of` are changed files of which the agent knows that they have changed.
        """
        self._settings = settings
        self._guard = guard
        self._todo = todo
        self._place = place
        self._told_of = set(told_of)

    @property
    def told_of(self) -> Sequence[str]:
        """Return the changed files of which the agent was told."""
        return sorted(self._told_of)

    async def due(self, *, turns_left: int, ran: Sequence[str]) -> str:
        """Return the reminders after a turn, or an empty text; `ran` are tools that may have changed files."""
        lines = [
            *self._about_turns(turns_left),
            *self._about_todo(),
            *self._about_loops(),
            *await self._about_files(ran),
        ]
        return reminder("\n".join(lines)) if lines else ""

    def _about_turns(self, left: int) -> Sequence[str]:
        if left == 0 or left != self._settings.turns_left:
            return []
        return [f"Only {left} more replies are left. Bring the work to an end that can be used."]

    def _about_todo(self) -> Sequence[str]:
        todo, after = self._todo, self._settings.todo_after
        if todo is None or not after or todo.turns_since == 0 or todo.turns_since % after:
            return []
        if not todo.items:
            return ["The todo list is empty. If the task has several steps, write them down with todo_write."]
        if not todo.open:
            return []
        return [f"The todo list has not been looked at for a while. It says:\n{todo.shown()}"]

    def _about_loops(self) -> Sequence[str]:
        if not self._guard.reminds:
            return []
        return ["The same calls brought the same results several times. Do something else, or finish and say why."]

    async def _about_files(self, ran: Sequence[str]) -> Sequence[str]:
        if self._place is None or not self._settings.changed_files or not ran:
            return []
        changed = [
            path for path in self._place.ledger.recent(self._settings.changed_files) if await self._is_news(path)
        ]
        if not changed:
            return []
        names = ", ".join([await self._place.shown(path) for path in changed])
        return [f"Files that were read have changed since: {names}. Read them again before changing them."]

    async def _is_news(self, path: str) -> bool:
        """Tell whether a file has changed and the agent does not know yet."""
        if self._place is None:
            return False
        try:
            content = await self._place.read(path)
        except SandboxError as error:
            if error.infra:
                raise
            return False
        except (Refusal, OSError):
            return False
        if self._place.ledger.knows(path, content) != "changed":
            self._told_of.discard(path)
            return False
        if path in self._told_of:
            return False
        self._told_of.add(path)
        return True


def reminder(text: str) -> str:
    """Return a text as a reminder of the scaffold's, which is neither the person's word nor a tool's."""
    return f"<system-reminder>\n{text}\n</system-reminder>"


def without_reminders(text: str) -> str:
    """Return what a person said, without the reminders and attached files that the scaffold put with it."""
    said = _REMINDER.sub("", text).strip()
    return "" if said.startswith("<file path=") else said
