"""The settings of `qwen-code`."""

from pydantic import Field

from tumbler_agents.process.settings import ProgramSettings

__all__ = ["QwenCodeSettings"]


class QwenCodeSettings(ProgramSettings):
    """Which Qwen Code runs, and how it acts."""

    version: str = Field(default="0.24.4", pattern=r"^[0-9][0-9A-Za-z.-]*$")
    """Of the package `@qwen-code/qwen-code` on npm. Others may know other settings."""

    node: str = Field(default="22.20.0", pattern=r"^[0-9][0-9.]*$")
    """Of Node, which is brought along: it needs 22 or later."""

    context_window: int | None = Field(default=None, gt=0)
    """Tokens that the policy takes, prompt and reply together, as the program is told: by it, it decides when to
    compact. None tells it the model's own."""

    compact_at: float = Field(default=0.85, gt=0, le=1)
    """The share of the context window at which it compacts at the latest."""

    max_tokens: int | None = Field(default=None, gt=0)
    """Tokens of one reply that it asks for; None leaves that to the run."""

    exclude_tools: tuple[str, ...] = ()
    """Names of its tools that it does without, such as `web_fetch`."""

    system_prompt: str | None = None
    """What stands for its own system prompt; None keeps its own, of some ten thousand words."""
