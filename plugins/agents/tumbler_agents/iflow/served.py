"""Any chat model as an agent's voice: the flat log as a structured conversation, its calls and answers paired."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tumbler.contracts.chat import ChatMessage, ChatModel, ChatReply, Dialect
from tumbler.contracts.context import LogEntry
from tumbler.contracts.values import Message, ToolSpec
from tumbler_agents.iflow.speaking import Asked

__all__ = ["ServedSpeaker", "conversation"]

_MARK = "\0"
"""Tells what a dialect writes before and behind an answer, which an API's messages need not hold."""


class ServedSpeaker:
    """Speaks to a `ChatModel` with its own tool calls; the log keeps them as the dialect writes them."""

    def __init__(self, model: ChatModel, dialect: Dialect) -> None:
        """Keep both."""
        self._model = model
        self._dialect = dialect

    def opening(self, content: str, tools: Sequence[ToolSpec]) -> Message:
        """Return the system message; the tools go to the model on their own."""
        return Message(role="system", content=content)

    async def speak(self, asked: Asked) -> ChatReply:
        """Ask the model. Its ids of calls are replaced, since some servers count anew in each reply."""
        messages = conversation(asked.messages, asked.entries, self._dialect)
        reply = await self._model.chat(messages, asked.tools, on_text=asked.on_text)
        if asked.on_prompt is not None and reply.usage.prompt:
            asked.on_prompt(reply.usage.prompt)
        calls = tuple(replace(call, id=f"{asked.call_prefix}{index}") for index, call in enumerate(reply.message.calls))
        message = replace(reply.message, calls=calls)
        return replace(reply, message=message, text=self._dialect.write(message).content)


def conversation(messages: Sequence[Message], entries: Sequence[LogEntry], dialect: Dialect) -> Sequence[ChatMessage]:
    """Return the log as chat messages.

    Every answer follows the reply that made its call, and every call has its answer, as chat APIs demand; where a
    strategy has changed a reply so that it makes no calls any more, its answers are the user's words.
    """
    before, _, after = dialect.write(ChatMessage(role="tool", content=_MARK)).content.partition(_MARK)
    built: list[ChatMessage] = []
    waiting: set[str] = set()
    for message, entry in _paired(messages, entries):
        if entry is not None and message.role == "assistant":
            _give_up(built, waiting)
            said = _said(message, entry, dialect)
            if not (said.content or said.thinking or said.calls):  # chat APIs take no reply that says nothing
                continue
            waiting = {call.id for call in said.calls}
            built.append(said)
        elif entry is not None and entry.answers in waiting:
            waiting.discard(entry.answers)
            content = message.content.removeprefix(before).removesuffix(after)
            built.append(ChatMessage(role="tool", content=content, call_id=entry.answers))
        elif built and message.role == "user" == built[-1].role:
            built[-1] = replace(built[-1], content=f"{built[-1].content}\n{message.content}")
        else:
            _give_up(built, waiting)
            built.append(ChatMessage(role=message.role, content=message.content))
    _give_up(built, waiting)
    return built


def _paired(messages: Sequence[Message], entries: Sequence[LogEntry]) -> Iterator[tuple[Message, LogEntry | None]]:
    """Yield each message with its entry; a message that is in one prompt only has none."""
    left = list(entries)
    for message in messages:
        yield message, left.pop(0) if left and left[0].message == message else None


def _said(message: Message, entry: LogEntry, dialect: Dialect) -> ChatMessage:
    said = dialect.read(message.content, call_prefix="")
    sound = len(said.calls) == len(entry.calls)
    calls = [replace(call, id=identity) for call, identity in zip(said.calls, entry.calls, strict=False)]
    # A call that could not be read has no name that an API would take; its words stay in the content.
    if not sound or any(call.problem is not None for call in calls):
        return ChatMessage(role="assistant", content=message.content)
    return replace(said, calls=tuple(calls))


def _give_up(built: list[ChatMessage], waiting: set[str]) -> None:
    """Answer the calls that nothing in view answers."""
    reply = next((message for message in reversed(built) if message.role != "tool"), None)
    for call in reply.calls if reply is not None else ():
        if call.id in waiting:
            built.append(ChatMessage(role="tool", content="(no answer)", call_id=call.id, name=call.name))
    waiting.clear()
