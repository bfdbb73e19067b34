"""The scaffold's own slash commands by name; carries none out."""

from collections.abc import Mapping
from typing import Final

__all__ = ["OWN_COMMANDS"]

OWN_COMMANDS: Final[Mapping[str, str]] = {
    "compact": "Make room: let the context strategies compact the conversation now.",
    "memory": "Show what the agent is told of the project in every conversation.",
    "todo": "Show the todo list.",
    "tools": "Show the tools that the agent has.",
    "plan": "Begin or leave plan mode: only reading, until you have approved a plan.",
    "help": "Show the commands.",
}
