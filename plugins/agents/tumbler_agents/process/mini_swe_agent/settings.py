"""The settings of `mini-swe-agent`."""

from pydantic import Field

from tumbler_agents.process.settings import ProgramSettings

__all__ = ["MiniSweAgentSettings"]


class MiniSweAgentSettings(ProgramSettings):
    """Which mini-SWE-agent runs, and how it acts."""

    version: str = Field(default="2.4.6", pattern=r"^[0-9][0-9.]*$")
    """Of the package `mini-swe-agent` on PyPI. Others may know other settings."""

    litellm: str = Field(default="1.81.0", pattern=r"^[0-9][0-9.]*$")
    """Of the package `litellm`, through which it speaks to its model."""

    tool_calls: bool = True
    """Whether it acts by tool calls; False has it read commands in code blocks out of the reply's text."""

    command_seconds: int = Field(default=30, gt=0)
    """How long one of its commands may take."""

    format_errors: int = Field(default=3, ge=0)
    """After so many replies in a row without a command it gives up; 0 is never."""
