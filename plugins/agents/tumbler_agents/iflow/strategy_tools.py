"""The tools of a sub-agent's own context strategies: its calls are theirs to answer, and not the main agent's."""

from collections.abc import Sequence
from dataclasses import replace

from tumbler.contracts.context import ContextPipeline
from tumbler.contracts.pipelines import AgentPipeline
from tumbler.contracts.values import JSONObject, ToolCall, ToolSpec
from tumbler_agents.iflow.toolbox import Offer
from tumbler_agents.tools.tool import ToolOutput

__all__ = ["StrategyTool", "with_own"]


class StrategyTool:
    """A strategy's tool."""

    def __init__(self, spec: ToolSpec, context: AgentPipeline) -> None:
        """Let the strategies over `context` answer."""
        self._spec = spec
        self._context = context

    @property
    def spec(self) -> ToolSpec:
        """Return the strategy's description of it."""
        return self._spec

    @property
    def reads_only(self) -> bool:
        """Return False: strategies do not tell."""
        return False

    async def call(self, arguments: JSONObject) -> ToolOutput:
        """Let the strategy answer."""
        answer = await self._context.call(ToolCall(name=self._spec.name, arguments=arguments))
        return ToolOutput(text=answer.text, errored=answer.errored)


def with_own(offers: Sequence[Offer], context: ContextPipeline) -> Sequence[Offer]:
    """Return what a sub-agent is offered, its own strategies' tools in place of the main agent's."""
    if not isinstance(context, AgentPipeline):
        return offers
    own = {spec.name: StrategyTool(spec, context) for spec in context.tools}
    return [
        replace(offer, tool=own[offer.spec.name]) if offer.tool is None and offer.spec.name in own else offer
        for offer in offers
    ]
