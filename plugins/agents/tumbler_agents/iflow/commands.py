"""Slash commands: what a person tells the scaffold and not the agent; those of workflows are prompts."""

from collections.abc import Mapping
from dataclasses import dataclass

from tumbler_agents.iflow.assembly import Assembled
from tumbler_agents.iflow.compacting import look
from tumbler_agents.iflow.own_commands import OWN_COMMANDS
from tumbler_agents.iflow.planning import PLAN_TOOL, plan_tool
from tumbler_agents.iflow.prompts import PLANNING, PLANNING_OVER
from tumbler_agents.iflow.toolbox import Offer, Toolbox

__all__ = ["Answered", "answer", "commands"]


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What comes of a message."""

    notice: str = ""
    """What the person is shown."""
    prompt: str | None = None
    """What the agent is told; None for nothing."""


def commands(agent: Assembled) -> Mapping[str, str]:
    """Return each command and what it does."""
    return {**OWN_COMMANDS, **{name: each.description for name, each in agent.workflow.commands.items()}}


async def answer(agent: Assembled, text: str) -> Answered:
    """Carry out a command, or pass the message on. A slash before what is no command is just a character."""
    name, _, arguments = text.strip().removeprefix("/").partition(" ")
    if not text.strip().startswith("/"):
        return Answered(prompt=text)
    match name:
        case "help":
            return Answered(notice="\n".join(f"/{each}  {said}".rstrip() for each, said in commands(agent).items()))
        case "todo":
            return Answered(notice=agent.todo.shown() or "The todo list is empty.")
        case "memory":
            parts = [agent.memory_text, *agent.memory.saved]
            return Answered(notice="\n\n".join(part for part in parts if part) or "There is no memory.")
        case "tools":
            return Answered(notice=_tools(agent))
        case "plan":
            return Answered(notice=_plan(agent))
        case "compact":
            return Answered(notice=await _compact(agent, arguments))
        case _ if name in agent.workflow.commands:
            return Answered(prompt=agent.workflow.commands[name].filled(arguments.strip()))
        case _:
            return Answered(prompt=text)


async def _compact(agent: Assembled, arguments: str) -> str:
    """Let the strategies plan at once, so that the person sees what comes of it."""
    thread = agent.thread
    verdict = await thread.shared.hooks.run("before_compact", {"why": "user_request", "instructions": arguments})
    if verdict.blocked is not None:
        return f"Not compacted: {verdict.blocked}"
    if not thread.turn:
        return "There is nothing to compact yet."
    known = thread.compacted
    before = sum(entry.tokens for entry in thread.context.entries)
    thread.compacted = False
    thread.context.request("user_request")
    await look(thread, verdict=verdict)
    after = sum(entry.tokens for entry in thread.context.entries)
    told, thread.compacted = thread.compacted, thread.compacted or known
    if told:  # as an event
        return ""
    if after >= before:
        return "Nothing was compacted: the context strategies found nothing that is worth leaving out."
    return f"Old results were left out: the conversation takes about {after:,} tokens in place of {before:,}."


def _tools(agent: Assembled) -> str:
    lines = [f"{each.spec.name}  {each.spec.description.partition('. ')[0]}" for each in agent.thread.toolbox.offers]
    return "\n".join(lines) or "The agent has no tools."


def _plan(agent: Assembled) -> str:
    """Change the mode; the agent is told with the next message, as its system message cannot change any more."""
    thread = agent.thread
    mode = thread.shared.plan
    agent.pending.clear()
    if mode.active:
        mode.active = False
        if thread.context.entries:
            agent.pending.append(PLANNING_OVER)
        return "Plan mode is over: the agent may change things."
    mode.active = True
    tool = plan_tool(mode)
    known = thread.toolbox.get(PLAN_TOOL) is not None
    if not known:
        thread.toolbox = Toolbox([*thread.toolbox.offers, Offer.of(tool, "own", planning=True)])
    if thread.context.entries:
        told = thread.shared.speaker.opening(PLANNING, [] if known else [tool.spec])
        agent.pending.append(told.content)
    return "Plan mode: the agent only reads until you have approved its plan."
