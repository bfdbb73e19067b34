"""One model call: hooks, the view that the strategies give, the reply into the log; carries no call out."""

from collections.abc import Sequence

from tumbler.contracts.chat import ChatReply
from tumbler.contracts.conversation import Compacted, Said, TextPiece, TokensUsed
from tumbler.contracts.values import Message
from tumbler_agents.iflow.compaction import freed, shown_again
from tumbler_agents.iflow.reminders import reminder
from tumbler_agents.iflow.speaking import Asked
from tumbler_agents.iflow.thread import AgentThread

__all__ = ["Blocked", "ask", "look"]


class Blocked(Exception):
    """A hook does not let the model be called; the message is its reason."""


async def ask(thread: AgentThread) -> ChatReply:
    """Let the agent speak once; the reply is then in its log.

    Raises `ContextOverflowError` where the conversation no longer fits, and `Blocked` where a hook says no.
    """
    before = await thread.shared.hooks.run("before_model", {"turn": thread.turn}, agent_id=thread.id)
    if before.blocked is not None:
        raise Blocked(before.blocked)
    for text in before.context:
        thread.tell(reminder(text))
    messages = await look(thread)
    thread.allowance.take()
    thread.turn += 1
    if thread.todo is not None:
        thread.todo.turns_since += 1
    asked = Asked(
        agent_id=thread.id,
        messages=messages,
        entries=thread.context.entries,
        tools=thread.toolbox.specs,
        call_prefix=f"{thread.id}-{thread.turn}-",
        compacted=thread.compacted,
        on_text=lambda piece: _pass_on(thread, piece),
    )
    reply = await thread.shared.speaker.speak(asked)
    thread.compacted = False
    _count(thread, reply)
    thread.context.append(
        Message(role="assistant", content=reply.text), sampled=True, calls=[call.id for call in reply.message.calls]
    )
    if reply.message.content or reply.message.thinking:
        thread.shared.emit(Said(agent_id=thread.id, text=reply.message.content, thinking=reply.message.thinking))
    return reply


def _count(thread: AgentThread, reply: ChatReply) -> None:
    usage = reply.usage
    shown = usage.prompt or sum(entry.tokens for entry in thread.context.entries)
    thread.shared.emit(
        TokensUsed(
            agent_id=thread.id,
            prompt=shown,
            completion=usage.completion,
            cached=usage.cached,
            estimated=not usage.prompt,
        )
    )


async def _pass_on(thread: AgentThread, piece: str) -> None:
    thread.shared.emit(TextPiece(agent_id=thread.id, text=piece))


async def look(thread: AgentThread) -> Sequence[Message]:
    """Return what the model is to see; where that was compacted, what must not be lost is behind it."""
    before = thread.context.entries
    messages = await thread.context.messages()
    after = thread.context.entries
    saved = freed(before, after)
    if not saved:
        return messages
    thread.compacted = True
    counts = [sum(entry.tokens for entry in entries) for entries in (before, after)]
    thread.shared.emit(Compacted(agent_id=thread.id, tokens_before=counts[0], tokens_after=counts[1]))
    told = {"tokens_before": counts[0], "tokens_after": counts[1]}
    verdict = await thread.shared.hooks.run("after_compact", told, agent_id=thread.id)
    if thread.memory is not None:
        thread.memory.forget_shown()
    again = await shown_again(
        thread.shared.settings.compaction,
        tokens_freed=saved,
        entries=after,
        plan=thread.shared.plan.plan if thread.is_main else "",
        todo=thread.todo,
        memory=thread.memory,
        place=thread.place,
    )
    for text in (*(reminder(each) for each in verdict.context), *((again,) if again else ())):
        thread.tell(text)
    return await thread.context.messages()
