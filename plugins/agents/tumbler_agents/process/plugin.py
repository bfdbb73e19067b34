"""Registers the agents that are programs: `process`, `mini-swe-agent` and `qwen-code`."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import AgentSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.agent import Agent

__all__ = ["tumbler_agents"]


def _process() -> "type[Agent]":
    from tumbler_agents.process.agent import ProcessAgent

    return ProcessAgent


def _process_settings() -> "type[Settings]":
    from tumbler_agents.process.settings import ProcessSettings

    return ProcessSettings


def _mini_swe_agent() -> "type[Agent]":
    from tumbler_agents.process.mini_swe_agent.agent import MiniSweAgent

    return MiniSweAgent


def _mini_swe_agent_settings() -> "type[Settings]":
    from tumbler_agents.process.mini_swe_agent.settings import MiniSweAgentSettings

    return MiniSweAgentSettings


def _qwen_code() -> "type[Agent]":
    from tumbler_agents.process.qwen_code.agent import QwenCodeAgent

    return QwenCodeAgent


def _qwen_code_settings() -> "type[Settings]":
    from tumbler_agents.process.qwen_code.settings import QwenCodeSettings

    return QwenCodeSettings


@hookimpl
def tumbler_agents() -> list[AgentSpec]:
    """Provide the scaffolds that run a program in the sandbox."""
    return [
        AgentSpec(
            name="process",
            summary="Any program, unmodified, in the sandbox; its model calls go through the gateway.",
            load=_process,
            config=_process_settings,
            needs=("execution", "sandbox", "gateway"),
        ),
        AgentSpec(
            name="mini-swe-agent",
            summary="mini-SWE-agent, unmodified: one shell, and little around it.",
            load=_mini_swe_agent,
            config=_mini_swe_agent_settings,
            needs=("execution", "sandbox", "gateway"),
        ),
        AgentSpec(
            name="qwen-code",
            summary="Qwen Code, unmodified: a coding agent with files, shell, sub-agents and compaction.",
            load=_qwen_code,
            config=_qwen_code_settings,
            needs=("execution", "sandbox", "gateway"),
        ),
    ]
