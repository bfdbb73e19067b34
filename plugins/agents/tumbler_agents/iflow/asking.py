"""One model call: hooks, the view that the strategies give, the reply into the log; carries no call out."""

from tumbler.contracts.chat import ChatReply
from tumbler.contracts.conversation import MeasuredPipeline, Said, TextPiece, TokensUsed
from tumbler.contracts.values import Message
from tumbler_agents.iflow.compacting import look
from tumbler_agents.iflow.reminders import reminder
from tumbler_agents.iflow.speaking import Asked
from tumbler_agents.iflow.thread import AgentThread

__all__ = ["Blocked", "ask"]


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
        on_prompt=thread.context.note_prompt if isinstance(thread.context, MeasuredPipeline) else None,
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
