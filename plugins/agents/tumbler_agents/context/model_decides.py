"""The context strategy `model-decides`: the policy asks for compaction; the strategies beside it carry it out."""

from collections.abc import Sequence
from random import Random

from tumbler.config import Settings
from tumbler.contracts.context import Budget, Plan, State, StrategyAnswer, StrategyCaps, Trigger, View
from tumbler.contracts.environment import Task
from tumbler.contracts.values import ToolCall, ToolSpec
from tumbler_agents.context.calling import MalformedCall, ToolName, optional_text, refused, text_parameters
from tumbler_agents.context.shares import ShareOrRange, draw_share

__all__ = ["RUBRIC", "ModelDecides", "ModelDecidesSettings"]

RUBRIC = """\
Compacts the conversation: what is older is masked, dropped or summed up before your next step, and is gone for good.
Call it when a part of the work is finished and its details no longer matter, after a long search whose outcome is
known, or before starting something that will take many steps. Do not call it while you still need the exact words of
earlier output, in the middle of an edit or of a debugging step, or when you are nearly done. Write down first what you
must not lose."""


class ModelDecidesSettings(Settings):
    """What the policy is told, and how full the window must be."""

    rubric: str = RUBRIC
    """The tool's description: when to call it and when not to."""

    minimum: ShareOrRange = 0.3
    """The share of the prompt's limit below which a request is refused; [low, high] draws one for each group."""

    tool: ToolName = "compact"
    """The tool's name."""


class ModelDecides:
    """Only asks: a granted request is the trigger `tool_request` for all strategies of the pipeline."""

    def __init__(self, settings: ModelDecidesSettings) -> None:
        """Keep the settings."""
        self._settings = settings

    @property
    def caps(self) -> StrategyCaps:
        """Promise to edit nothing."""
        return StrategyCaps()

    def start(self, task: Task, rng: Random) -> State:
        """Draw the minimum; nothing is known of the window yet."""
        return {"minimum": draw_share(self._settings.minimum, rng), "limit": 0, "overhead": 0}

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        """Edit nothing; remember the window, which a call is not told."""
        state["limit"] = budget.limit
        state["overhead"] = budget.used - sum(entry.tokens for entry in view.entries)
        return Plan()

    def tools(self) -> Sequence[ToolSpec]:
        """Return the tool that asks for compaction."""
        parameters = text_parameters((), reason="What is finished, and why its details no longer matter.")
        return [ToolSpec(name=self._settings.tool, description=self._settings.rubric, parameters=parameters)]

    async def call(self, call: ToolCall, view: View, state: State) -> StrategyAnswer:
        """Grant the request, or refuse it where there is little to gain."""
        try:
            optional_text(call, "reason")
        except MalformedCall as error:
            return refused(error)
        limit, overhead, minimum = (float(str(state[key])) for key in ("limit", "overhead", "minimum"))
        used = overhead + sum(entry.tokens for entry in view.entries)
        if used < minimum * limit:
            return refused(
                f"the conversation takes {used / limit:.0%} of the window, and compaction loses more than it gives "
                f"below {minimum:.0%}; go on with the task"
            )
        return StrategyAnswer(text="The conversation will be compacted before your next step.", plan=True)
