"""Registers the agent `iflow`."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import AgentSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.agent import Agent


def _load() -> "type[Agent]":
    from tumbler_agents.iflow.agent import IflowAgent

    return IflowAgent


def _config() -> "type[Settings]":
    from tumbler_agents.iflow.settings import IflowSettings

    return IflowSettings


@hookimpl
def tumbler_agents() -> list[AgentSpec]:
    """Provide the scaffold `iflow`."""
    return [
        AgentSpec(
            name="iflow",
            summary="A coding agent with sub-agents, memory, plans, hooks, workflows and MCP.",
            load=_load,
            config=_config,
            needs=("execution",),
            default=True,
        )
    ]
