"""Plan mode: only what reads may be called until the plan is approved; knows no conversation."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from pydantic import Field

from tumbler_agents.iflow.toolbox import Offer
from tumbler_agents.tools.checked import Arguments, CheckedTool, Refusal
from tumbler_agents.tools.tool import ToolOutput

__all__ = ["PLAN_TOOL", "PlanArguments", "PlanMode", "plan_tool"]

PLAN_TOOL = "submit_plan"


class PlanArguments(Arguments):
    """Submit the plan for approval. Until it is approved, only tools that read can be called."""

    plan: str = Field(min_length=1)
    """The plan: what will be changed, where, and how it will be checked."""


class PlanMode:
    """Whether a plan is being made. Whoever may approve calls also approves the plan: it is the tool's call."""

    def __init__(self, *, active: bool, plan: str = "", reading: Sequence[str] = ()) -> None:
        """Begin in plan mode or not; `reading` are patterns of tools that only read, beside those that say so."""
        self.active = active
        self.plan = plan
        """The plan that was approved last."""
        self._reading = tuple(reading)

    def refusal(self, offer: Offer) -> str | None:
        """Return why a tool cannot be called now, or None."""
        name = offer.spec.name
        if not self.active or offer.reads_only or offer.planning:
            return None
        if any(fnmatchcase(name, pattern) for pattern in self._reading):
            return None
        return f"error: {name} is not available while planning; look around with tools that read, then {PLAN_TOOL}"

    def approve(self, plan: str) -> None:
        """Take the plan and leave plan mode."""
        self.plan = plan
        self.active = False


def plan_tool(mode: PlanMode) -> CheckedTool[PlanArguments]:
    """Return the tool that ends plan mode; a call that is carried out has been approved."""

    async def carry_out(given: PlanArguments) -> ToolOutput:
        if not mode.active:
            raise Refusal("no plan is asked for; go on with the task")
        mode.approve(given.plan)
        return ToolOutput(text="The plan is approved. Carry it out now.")

    return CheckedTool(PLAN_TOOL, PlanArguments, carry_out)
