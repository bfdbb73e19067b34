"""What is shown again after the conversation was compacted: plan, todo, saved facts, and files read last.

The context strategies do the compaction; this only sees that they did.
"""

from collections.abc import Sequence
from typing import Final

from pydantic import Field

from tumbler.config import Settings
from tumbler.contracts.context import LogEntry
from tumbler_agents.iflow.memory import Memory
from tumbler_agents.iflow.mentions import attachment
from tumbler_agents.iflow.reminders import reminder
from tumbler_agents.iflow.todo import TodoList
from tumbler_agents.tools.workplace import Workplace

__all__ = ["CompactionSettings", "freed", "shown_again"]

_LARGE: Final = 3
"""A rewrite without a summary is a compaction where it leaves out at least one part in so many."""
_SHARE: Final = 2
"""At most one part in so many of what was freed is used up again."""


class CompactionSettings(Settings):
    """What is shown again after a compaction."""

    files: int = Field(default=3, ge=0)
    """How many of the files that were read last; 0 shows none."""

    characters: int = Field(default=12_000, ge=0)
    """Of all that is shown again; never more than half of what the compaction has freed."""


def freed(before: Sequence[LogEntry], after: Sequence[LogEntry]) -> int:
    """Return how many tokens a compaction has freed between two looks at a log; 0 where there was none.

    Placeholders for old results are none, nor is a window that moves on by a turn.
    """
    left = {entry.id: entry for entry in after}
    new_summary = any(entry.summary and entry.id not in {each.id for each in before} for entry in after)
    gone = sum(entry.tokens for entry in before if entry.shown and entry.id not in left)
    known = {entry.id for entry in before}
    gained = sum(entry.tokens for entry in after if entry.id not in known)
    if gone <= gained:
        return 0
    large = gone * _LARGE >= sum(entry.tokens for entry in before)
    return gone - gained if new_summary or large else 0


async def shown_again(
    settings: CompactionSettings,
    *,
    tokens_freed: int,
    entries: Sequence[LogEntry],
    plan: str,
    todo: TodoList | None,
    memory: Memory | None,
    place: Workplace | None,
) -> str:
    """Return what the agent must not lose, as a reminder; empty where there is nothing, or no room."""
    room = min(settings.characters, _characters(tokens_freed, entries) // _SHARE)
    parts = [f"The plan that was approved:\n{plan}"] if plan else []
    if todo is not None and todo.items:
        parts.append(f"The todo list:\n{todo.shown()}")
    if memory is not None and memory.saved:
        parts.append("Facts saved in this conversation:\n" + "\n".join(memory.saved))
    parts = _fitting(parts, room)
    room -= sum(len(part) for part in parts)
    recent = place.ledger.recent(settings.files) if place is not None else ()
    for path in recent:
        part = await attachment(path, place, characters=room) if place is not None else None
        if part is not None:
            parts.append(part)
            room -= len(part)
    if not parts:
        return ""
    return reminder("Earlier parts of the conversation were left out. What still holds:\n\n" + "\n\n".join(parts))


def _fitting(parts: Sequence[str], room: int) -> list[str]:
    kept: list[str] = []
    for part in parts:
        if len(part) <= room:
            kept.append(part)
            room -= len(part)
    return kept


def _characters(tokens: int, entries: Sequence[LogEntry]) -> int:
    """Return how many characters so many tokens are in this conversation."""
    counted = sum(entry.tokens for entry in entries)
    written = sum(len(entry.message.content) for entry in entries)
    return tokens * written // counted if counted else 0
