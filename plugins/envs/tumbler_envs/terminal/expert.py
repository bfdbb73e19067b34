"""The scripted teacher of `terminal`: it runs the commands that solve a task, one after the other."""

from collections.abc import Sequence

from tumbler.contracts.environment import ExpertAction
from tumbler.contracts.values import ToolCall

__all__ = ["CommandsExpert"]


class CommandsExpert:
    """Knows the commands beforehand, so that what they print changes nothing."""

    def __init__(self, commands: Sequence[str], *, tool: str) -> None:
        """Prepare for one episode; `tool` is the shell's name."""
        self._commands = iter(tuple(commands))
        self._tool = tool

    def act(self, observation: str) -> ExpertAction | None:
        """Return the next command, or None at the end."""
        command = next(self._commands, None)
        return None if command is None else ExpertAction(call=ToolCall(name=self._tool, arguments={"command": command}))
