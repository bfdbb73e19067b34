"""Settings of the agent `iflow`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from tumbler.config import Settings
from tumbler_agents.iflow.approval import ApprovalSettings
from tumbler_agents.iflow.compaction import CompactionSettings
from tumbler_agents.iflow.definitions import SubAgentSettings
from tumbler_agents.iflow.hooks import HookSettings
from tumbler_agents.iflow.memory import MemorySettings
from tumbler_agents.iflow.reminders import ReminderSettings
from tumbler_agents.mcp.settings import McpServer
from tumbler_agents.tools.settings import SandboxToolsSettings

__all__ = ["IflowSettings"]


class IflowSettings(Settings):
    """How `iflow` works."""

    dialect: Literal["hermes", "plain"] = "hermes"
    """How tool calls stand in the policy's text."""

    system_prompt: str | None = None
    """The system message before the tools; null takes the workflow's, or the scaffold's own."""

    include: tuple[str, ...] = ("*",)
    """Patterns of the tools on offer, such as `read*`; the environment's are among them."""

    exclude: tuple[str, ...] = ()
    """Patterns of tools that are not on offer."""

    tools: SandboxToolsSettings = SandboxToolsSettings()
    """Bounds of the tools over the sandbox."""

    mcp: Mapping[str, McpServer] = Field(default_factory=dict)
    """MCP servers by name; their tools are on offer, too."""

    sub_agents: SubAgentSettings = SubAgentSettings()
    """To whom the policy may give tasks."""

    memory: MemorySettings = MemorySettings()
    """What the agent is told in every conversation."""

    todo: bool = True
    """Whether there is a todo list."""

    plan: bool = False
    """Whether the agent begins in plan mode: only tools that read, until its plan is approved."""

    plan_reading: tuple[str, ...] = ()
    """Patterns of tools that only read although they do not say so, such as an environment's `look`."""

    approval: ApprovalSettings = ApprovalSettings()
    """Which calls may be made."""

    hooks: tuple[HookSettings, ...] = ()
    """Commands that are told what happens, and may block or change it."""

    reminders: ReminderSettings = ReminderSettings()
    """What the agent is reminded of."""

    compaction: CompactionSettings = CompactionSettings()
    """What is shown again after the context strategies have compacted the conversation."""

    attached_characters: int = Field(default=40_000, ge=0)
    """Of all files that a message mentions with `@`; 0 attaches none."""

    stop_after_repeats: int = Field(default=6, ge=0)
    """Rounds of the same calls with the same results after which the agent is stopped; 0 never stops it."""

    time_share: float = Field(default=0.95, gt=0, le=1)
    """The share of the episode's time after which no model call begins: the rest is for the verdict."""

    workflow: str | None = None
    """The workflow to use."""

    workflows: Path | None = None
    """The folder of this machine that holds workflows, each in a folder of its own with a `workflow.toml`."""

    @field_validator("stop_after_repeats")
    @classmethod
    def _is_repetition(cls, value: int) -> int:
        if value == 1:
            raise ValueError("1 would stop the agent after its first call; set 0 for never, or at least 2")
        return value
