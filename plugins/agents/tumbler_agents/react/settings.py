"""Settings of the agent `react`."""

from typing import Literal

from tumbler.config import Settings

__all__ = ["ReactSettings"]


class ReactSettings(Settings):
    """How `react` talks to the policy."""

    system_prompt: str | None = None
    """The system message; null writes one from the tools on offer, and an empty text sends none."""

    observation_role: Literal["user", "tool"] = "user"
    """The role in which observations are shown; every chat template knows "user"."""
