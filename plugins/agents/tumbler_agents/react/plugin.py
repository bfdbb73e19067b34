"""Registers the agent `react`."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import AgentSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.agent import Agent


def _load() -> "type[Agent]":
    from tumbler_agents.react.agent import ReactAgent

    return ReactAgent


def _config() -> "type[Settings]":
    from tumbler_agents.react.settings import ReactSettings

    return ReactSettings


@hookimpl
def tumbler_agents() -> list[AgentSpec]:
    """Provide the scaffold `react`."""
    return [
        AgentSpec(
            name="react",
            summary="Reason and act: one tool call a turn in a compact text protocol.",
            load=_load,
            config=_config,
            needs=("execution",),
        )
    ]
