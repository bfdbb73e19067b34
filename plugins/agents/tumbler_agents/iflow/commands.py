"""Slash commands: what a person tells the scaffold and not the agent; those of workflows are prompts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tumbler_agents.iflow.assembly import Assembled

__all__ = ["Answered", "answer"]

_BUILT_IN: Final[Mapping[str, str]] = {
    "compact": "Make room: the context strategies compact the conversation before the next reply.",
    "memory": "Show what the agent is told of the project in every conversation.",
    "todo": "Show the todo list.",
    "help": "Show the commands.",
}


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What comes of a message."""

    notice: str = ""
    """What the person is shown."""
    prompt: str | None = None
    """What the agent is told; None for nothing."""


async def answer(agent: Assembled, text: str) -> Answered:
    """Carry out a command, or pass the message on. A slash before what is no command is just a character."""
    name, _, arguments = text.strip().removeprefix("/").partition(" ")
    if not text.strip().startswith("/"):
        return Answered(prompt=text)
    match name:
        case "help":
            return Answered(notice=_help(agent))
        case "todo":
            return Answered(notice=agent.todo.shown() or "The todo list is empty.")
        case "memory":
            parts = [agent.memory_text, *agent.memory.saved]
            return Answered(notice="\n\n".join(part for part in parts if part) or "There is no memory.")
        case "compact":
            return await _compact(agent, arguments)
        case _ if name in agent.workflow.commands:
            return Answered(prompt=agent.workflow.commands[name].filled(arguments.strip()))
        case _:
            return Answered(prompt=text)


async def _compact(agent: Assembled, arguments: str) -> Answered:
    hooks = agent.thread.shared.hooks
    verdict = await hooks.run("before_compact", {"instructions": arguments})
    if verdict.blocked is not None:
        return Answered(notice=f"Not compacted: {verdict.blocked}")
    agent.thread.context.request("user_request")
    return Answered(notice="The conversation is compacted before the next reply.")


def _help(agent: Assembled) -> str:
    known = {**_BUILT_IN, **{name: each.description for name, each in agent.workflow.commands.items()}}
    return "\n".join(f"/{name}  {description}".rstrip() for name, description in known.items())
