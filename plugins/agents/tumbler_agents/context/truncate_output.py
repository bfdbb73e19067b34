"""The context strategy `truncate-output`: long outputs are shown as head and tail from the start."""

from random import Random

from pydantic import Field, PositiveInt

from tumbler.config import Settings
from tumbler.contracts.context import Budget, Plan, Replace, State, StrategyCaps, Trigger, View
from tumbler.contracts.environment import Task
from tumbler_agents.context.excerpt import excerpt
from tumbler_agents.context.observations import arrivals

__all__ = ["TruncateOutput", "TruncateOutputSettings"]


class TruncateOutputSettings(Settings):
    """How much of an output is shown."""

    max_tokens: PositiveInt = 2000
    """An output of more tokens is cut to this many, the line that says so included."""

    head_share: float = Field(default=0.5, ge=0, le=1)
    """Which part of what is shown is the output's beginning; the rest is its end."""


class TruncateOutput:
    """Cuts outputs when they arrive: what a prompt has held is never touched, and the token prefix is kept."""

    def __init__(self, settings: TruncateOutputSettings) -> None:
        """Keep the settings."""
        self._settings = settings

    @property
    def caps(self) -> StrategyCaps:
        """Promise to keep every token prefix."""
        return StrategyCaps()

    def start(self, task: Task, rng: Random) -> State:
        """Return an empty state."""
        return {}

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        """Cut what has just arrived and is too long."""
        if view.io is None:
            return Plan()
        count, settings = view.io.count, self._settings
        edits: list[Replace] = []
        for entry in arrivals(view):
            text = entry.message.content
            if entry.tokens <= settings.max_tokens or count(text) <= settings.max_tokens:
                continue
            shown = excerpt(text, settings.max_tokens, head_share=settings.head_share, count=count)
            if shown is not None:
                edits.append(Replace(id=entry.id, content=shown, reason="long output"))
        return Plan(edits=edits)
