"""Turns the text that a model says into tool calls, and says how to; knows no environment."""

import json
from collections.abc import Sequence
from typing import Final

from tumbler.contracts.environment import Observation, Task
from tumbler.contracts.values import ToolCall, ToolSpec

__all__ = ["FINISH", "call_of", "first_observation"]

FINISH: Final = "finish"
"""The call that ends an episode, where the environment has no tool of that name."""


def call_of(action: str, tools: Sequence[ToolSpec]) -> ToolCall | None:
    """Return the tool call that a text stands for; None if it is none.

    A JSON object with `name` and `arguments` is a call. Any other text is the argument of the only tool, where
    that takes one required text.
    """
    try:
        value = json.loads(action)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        arguments = value.get("arguments", {})
        return ToolCall(name=value["name"], arguments=arguments) if isinstance(arguments, dict) else None
    argument = _only_argument(tools)
    return None if argument is None else ToolCall(name=tools[0].name, arguments={argument: action})


def first_observation(task: Task, observation: Observation, tools: Sequence[ToolSpec]) -> str:
    """Return what a model must know to begin: the task, what is seen, and how to act."""
    lines = [f"- {tool.name}: {tool.description} Arguments: {json.dumps(tool.parameters)}" for tool in tools]
    argument = _only_argument(tools)
    if argument is not None:
        lines.append(f"A reply that is not such an object is the {argument} of {tools[0].name}.")
    how = (
        'Reply with one JSON object {"name": …, "arguments": {…}}. '
        f'{{"name": "{FINISH}"}} ends the episode. The tools are:'
    )
    return "\n\n".join(part for part in (task.instruction, observation.text, "\n".join([how, *lines])) if part)


def _only_argument(tools: Sequence[ToolSpec]) -> str | None:
    if len(tools) != 1:
        return None
    required, properties = tools[0].parameters.get("required"), tools[0].parameters.get("properties")
    if not isinstance(required, list | tuple) or len(required) != 1 or not isinstance(properties, dict):
        return None
    name = required[0]
    if not isinstance(name, str):
        return None
    described = properties.get(name)
    return name if isinstance(described, dict) and described.get("type") == "string" else None
