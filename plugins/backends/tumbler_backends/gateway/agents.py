"""Which agent of a session speaks: programs run helpers of their own beside their main conversation.

A conversation that goes on from a reply is that of the agent who got the reply, whatever tools and system prompt come
with it. One without a history is that of the agent who came with the same system prompt and tools before, as after a
compaction; of none of them, it begins a new one. Names count in the order of arrival: main, agent-1, agent-2 …
"""

from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["MAIN", "Agents", "Traces"]

MAIN = "main"

_Kind: TypeAlias = tuple[bytes, bytes]


@dataclass(frozen=True, kw_only=True)
class Traces:
    """What tells whose a conversation is."""

    kind: _Kind
    """Digests of its system prompt and its tools."""
    goes_on: str | None
    """Whose reply it holds at the place where that was given; None without one."""
    quotes: str | None
    """Whose reply it holds anywhere."""


class Agents:
    """The agents of one session."""

    def __init__(self) -> None:
        """Start with none."""
        self._kinds: dict[_Kind, str] = {}
        self._count = 0

    def whose(self, traces: Traces) -> str:
        """Return the name of the agent whose conversation it is; it is known by these system prompt and tools, too."""
        agent = traces.goes_on or self._kinds.get(traces.kind) or traces.quotes or self._new()
        self._kinds.setdefault(traces.kind, agent)
        return agent

    def _new(self) -> str:
        name = f"agent-{self._count}" if self._count else MAIN
        self._count += 1
        return name
