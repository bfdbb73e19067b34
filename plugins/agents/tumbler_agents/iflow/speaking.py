"""Who speaks for an agent: the recorded policy of an episode; knows no loop. `served` has any chat model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from tumbler.contracts.agent import EpisodeModel
from tumbler.contracts.chat import ChatMessage, ChatReply, Dialect, OnText, StopReason, Usage
from tumbler.contracts.context import LogEntry
from tumbler.contracts.inference import FinishReason
from tumbler.contracts.values import Message, ToolSpec

__all__ = ["Asked", "RecordedSpeaker", "Speaker", "joined"]

_STOPS: Final[dict[FinishReason, StopReason]] = {"stop": "stop", "length": "length", "abort": "abort"}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a speaker answers to."""

    agent_id: str
    messages: Sequence[Message]
    """The conversation as the strategies show it."""
    entries: Sequence[LogEntry]
    """The same as the log has it, with the ids of calls; without messages that are in one prompt only."""
    tools: Sequence[ToolSpec]
    call_prefix: str
    """What the ids of the reply's calls start with."""
    compacted: bool = False
    """Whether the conversation was compacted since the last reply."""
    on_text: OnText | None = None
    on_prompt: Callable[[int], None] | None = None
    """Takes the prompt's true length, where only the speaker learns it."""


class Speaker(Protocol):
    """The model as the loop sees it."""

    def opening(self, content: str, tools: Sequence[ToolSpec]) -> Message:
        """Return the system message of a conversation in which these tools are on offer."""
        ...

    async def speak(self, asked: Asked) -> ChatReply:
        """Return the reply; the ids of its calls are unique in the conversation, and its text goes into the log.

        Raises `ContextOverflowError` where the prompt leaves no room for a reply.
        """
        ...


class RecordedSpeaker:
    """The policy of an episode: its words are kept as sampled, and a dialect reads calls in them."""

    def __init__(self, model: EpisodeModel, dialect: Dialect) -> None:
        """Keep both."""
        self._model = model
        self._dialect = dialect

    def opening(self, content: str, tools: Sequence[ToolSpec]) -> Message:
        """Return the system message, the tools described in the dialect."""
        return self._dialect.write(ChatMessage(role="system", content=self._dialect.system(content, tools)))

    async def speak(self, asked: Asked) -> ChatReply:
        """Sample a reply."""
        cause = "rewrite" if asked.compacted else None
        reply = await self._model.generate(joined(asked.messages), agent_id=asked.agent_id, cause=cause)
        message = self._dialect.read(reply.text, call_prefix=asked.call_prefix)
        stop = "calls" if message.calls and reply.finish_reason == "stop" else _STOPS[reply.finish_reason]
        usage = Usage(prompt=reply.prompt_tokens, completion=reply.tokens, cached=reply.cached_tokens)
        return ChatReply(message=message, stop=stop, text=reply.text, usage=usage, chunk=reply.chunk)


def joined(messages: Sequence[Message]) -> Sequence[Message]:
    """Return the conversation with messages of the user that follow each other in one.

    Answers to several calls, reminders and summaries each have an entry in the log; many chat templates take no two
    messages of one role in a row. What is joined stays so once a reply follows, so that prompts extend each other.
    """
    together: list[Message] = []
    for message in messages:
        if together and message.role == "user" == together[-1].role:
            together[-1] = Message(role="user", content=f"{together[-1].content}\n{message.content}")
        else:
            together.append(message)
    return together
