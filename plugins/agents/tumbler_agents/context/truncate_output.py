"""The context strategy `truncate-output`: long outputs are shown as head and tail from the start."""

from random import Random

from pydantic import Field, PositiveInt

from tumbler.config import Settings
from tumbler.contracts.context import Budget, Plan, Replace, State, StrategyCaps, Trigger, View
from tumbler.contracts.environment import Task
from tumbler_agents.context.excerpt import excerpt
from tumbler_agents.context.measuring import counter
from tumbler_agents.context.observations import long_arrivals

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
        settings, count = self._settings, counter(view)
        cut = {
            entry.id: excerpt(entry.message.content, settings.max_tokens, head_share=settings.head_share, count=count)
            for _, entry in long_arrivals(view, settings.max_tokens)
        }
        return Plan(
            edits=[
                Replace(id=each, content=text, reason="long output") for each, text in cut.items() if text is not None
            ]
        )
