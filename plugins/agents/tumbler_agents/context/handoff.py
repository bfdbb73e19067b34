"""Asks the model for a hand-off note on a conversation that is to be left; knows no strategy's settings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tumbler.contracts.context import Budget, StrategyIO, StrategyReply, View
from tumbler.contracts.values import Message
from tumbler.dialects.thinking import END, split_thinking
from tumbler.errors import ContextOverflowError, InferenceError
from tumbler_agents.context.cutting import Cut
from tumbler_agents.context.excerpt import head_of
from tumbler_agents.context.measuring import frame_tokens

__all__ = ["HandOff", "words_around", "write_handoff"]

_ASK: Final = (
    "The context is nearly full. Write a note from which you can go on without the conversation above: only the task "
    "and your note will be left of it. Say which rules hold, what is done and with what result, what failed and why, "
    "what is still to be done, and what comes next. Give names, paths, numbers and other facts word for word. "
    "Write the note only, and call no tool."
)
_HEADING: Final = "The steps so far are left out. This is the note that you wrote to go on from:\n\n"
_CUT_OFF: Final = "\n[The note was too long and is cut off here.]"
_ATTEMPTS: Final = 2


@dataclass(frozen=True, kw_only=True)
class HandOff:
    """The text that stands for the conversation, and the call whose reply it holds word for word, if it does."""

    text: str
    call: int | None


def words_around(io: StrategyIO) -> int:
    """Return what a hand-off takes besides the note itself."""
    return io.count(_HEADING) + io.count(_CUT_OFF)


async def write_handoff(view: View, budget: Budget, io: StrategyIO, *, tokens: int, trainable: bool) -> HandOff | None:
    """Return what the model notes in at most `tokens` tokens; None where it says nothing or nobody can be asked.

    A conversation that does not fit is shown to the model without its oldest steps. Failures of the infrastructure are
    raised, as they are for any other call of the model.
    """
    room = budget.limit - io.count(_ASK) - frame_tokens(view)
    for _attempt in range(_ATTEMPTS):
        conversation = Cut(view, budget.used)
        conversation.shed(conversation.exchanges[:-1], room)
        conversation.squeeze(room)
        try:
            reply = await io.model(
                _ask(conversation.messages()), role="handoff", max_tokens=tokens, trainable=trainable
            )
        except ContextOverflowError:
            room //= 2
            continue
        except InferenceError as error:
            if error.infra:
                raise
            return None
        return _read(reply, tokens, io)
    return None


def _ask(messages: Sequence[Message]) -> list[Message]:
    """Put the question last; within the last message if that is a user's, since some templates want roles to take
    turns.
    """
    if messages and messages[-1].role == "user":
        return [*messages[:-1], Message(role="user", content=f"{messages[-1].content}\n\n{_ASK}")]
    return [*messages, Message(role="user", content=_ASK)]


def _read(reply: StrategyReply, tokens: int, io: StrategyIO) -> HandOff | None:
    _, said, opened = split_thinking(reply.text)
    if not opened and END in said:
        said = said.partition(END)[2]
    note = said.strip()
    if not note or reply.finish_reason == "abort":
        return None
    if io.count(note) > tokens:
        note = head_of(note, tokens, io.count) + _CUT_OFF
    elif reply.finish_reason == "length":
        note += _CUT_OFF
    return HandOff(text=_HEADING + note, call=reply.call if reply.text.strip() in note else None)
