"""The text protocol of `react`: `$ command` for the shell, `@tool {json}` for others, `done` to end.

Text before the first line that starts with `$ ` or `@` is thought and is not carried out.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from tumbler.contracts.values import ToolCall, ToolSpec
from tumbler.dialects.json_text import read_json

__all__ = ["DONE", "SHELL", "Malformed", "describe", "parse", "write"]

DONE = "done"
SHELL = "shell"
"""The tool that `$` calls, with its one argument `command`."""


@dataclass(frozen=True)
class Malformed:
    """A reply that is no call; `reason` is what the policy is told."""

    reason: str


def parse(text: str) -> ToolCall | Malformed | None:
    """Return the call that a reply makes, None for the reply that ends the episode, or what is wrong."""
    lines = text.strip().split("\n")
    for index, line in enumerate(lines):
        if line.startswith("$"):
            command = "\n".join([line[1:], *lines[index + 1 :]]).strip()
            return ToolCall(name=SHELL, arguments={"command": command}) if command else _EMPTY
        if line.startswith("@"):
            return _parse_named("\n".join([line[1:], *lines[index + 1 :]]))
    if lines[-1].strip() == DONE:
        return None
    return _NO_CALL


def write(call: ToolCall | None) -> str:
    """Return the reply that makes the call; `parse` gives it back. None ends the episode."""
    if call is None:
        return DONE
    if call.name == SHELL and set(call.arguments) == {"command"}:
        return f"$ {call.arguments['command']}"
    return f"@{call.name} {json.dumps(call.arguments, ensure_ascii=False)}"


def describe(tools: Sequence[ToolSpec]) -> str:
    """Return the system message that explains the protocol for these tools."""
    lines = ["Act one step at a time. Each reply is one call:"]
    for tool in tools:
        if tool.name == SHELL:
            lines.append(f"$ COMMAND runs a shell command. {tool.description}")
        else:
            lines.append(f"@{tool.name} {json.dumps(tool.parameters)} {tool.description}")
    lines.append(f"When the task is finished, reply: {DONE}")
    return "\n".join(lines)


_EMPTY = Malformed("error: no command after $")
_NO_CALL = Malformed(f"error: reply with $ COMMAND, @TOOL JSON or {DONE}")


def _parse_named(text: str) -> ToolCall | Malformed:
    name, _, rest = text.strip().partition(" ")
    if not name:
        return Malformed("error: no tool name after @")
    try:
        arguments = read_json(rest or "{}")
    except ValueError as error:
        return Malformed(f"error: the arguments of {name} are not JSON: {error}")
    if not isinstance(arguments, dict):
        return Malformed(f"error: the arguments of {name} must be a JSON object")
    return ToolCall(name=name, arguments=arguments)
