"""How a conversation begins, and how what a person says enters it; calls no model."""

from tumbler_agents.iflow.assembly import Assembled
from tumbler_agents.iflow.mentions import attachments
from tumbler_agents.iflow.prompts import PLANNING, SYSTEM
from tumbler_agents.iflow.reminders import reminder

__all__ = ["enter"]


async def enter(agent: Assembled, text: str) -> None:
    """Add what a person, or a task, says. The first time, the system message comes before it; both stay for good."""
    thread, settings = agent.thread, agent.settings
    first = not thread.context.entries
    attached = ""
    if thread.place is not None and settings.attached_characters:
        attached = await attachments(text, thread.place, characters=settings.attached_characters)
    parts = [*(reminder(each) for each in agent.pending), text]
    if first:
        opening = thread.shared.speaker.opening(_system(agent), thread.toolbox.specs)
        if opening.content:
            thread.context.append(opening, pinned=True)
        parts += [reminder(each) for each in agent.greeting]
    agent.pending.clear()
    thread.guard.forget()
    thread.tell("\n\n".join(parts), pinned=first)
    if attached:
        thread.tell(attached)


def _system(agent: Assembled) -> str:
    given = agent.settings.system_prompt
    planning = PLANNING if agent.thread.shared.plan.active else ""
    return "\n\n".join(part for part in (SYSTEM if given is None else given, planning, agent.memory_text) if part)
