"""Lets the policy sum up a part of its conversation, in prompts that fit; knows neither log nor budget."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tumbler.contracts.context import LogEntry, StrategyIO, StrategyReply
from tumbler.contracts.values import Message
from tumbler.errors import ContextOverflowError, InferenceError
from tumbler_agents.context.clipping import clip, level

__all__ = ["INSTRUCTIONS", "Summariser"]

INSTRUCTIONS = """\
You are an agent in the middle of a task, and your conversation has become too long to be kept. Sum up the part below.
The summary takes its place: what is not in it is lost, and you will go on with the task from it alone.

Write these sections, each as short lines, and leave out those that would be empty:
Goal: what the task asks for, in its own words where they matter.
Constraints: every rule and wish of the user or of a tool's output that still holds, word for word.
Facts: what was found out and cannot be looked up again at no cost: names, numbers, paths, values, error messages.
Files: which files were read, written, created or deleted, and what is in them that matters.
State: what was done, with what result, and what must not be done twice; the plan or todo list with each item's status;
the results of sub-tasks and sub-agents.
Next steps: what was going to be done next, and calls whose outcome is still awaited.

Keep all that an earlier summary says unless something later overrules it; where two values differ, the later one holds.
Copy identifiers and numbers exactly. Invent nothing, carry out nothing, call no tool."""

_BRIEF = (
    "Sum up this conversation for yourself; keep goal, rules, facts, files, state, plan and next steps. Call no tool."
)
_FRAME = 32
"""Tokens left free for what a chat template puts around a prompt."""
_LEAST = 32
"""An entry that must be cut further is left out, the oldest first."""
_ATTEMPTS = 3


@dataclass(frozen=True, kw_only=True)
class Summariser:
    """Asks for a summary in one prompt, or piece by piece: each prompt then holds the summary of the pieces before."""

    io: StrategyIO
    instructions: str
    task: str
    room: int
    """The longest prompt, in tokens."""
    calls: int
    """The most prompts for one summary; what does not fit so many is cut."""
    trainable: bool

    async def summarise(self, entries: Sequence[LogEntry], tokens: int) -> StrategyReply | None:
        """Return a summary of at most `tokens` tokens; None where nobody can be asked, or nothing is said.

        Failures of the infrastructure are raised, as they are for any other call of the model.
        """
        room = self.room - _FRAME
        for _attempt in range(_ATTEMPTS):
            try:
                return await self._in_pieces(entries, tokens, room)
            except ContextOverflowError:
                room //= 2
            except InferenceError as error:
                if error.infra:
                    raise
                return None
        return None

    async def _in_pieces(self, entries: Sequence[LogEntry], tokens: int, room: int) -> StrategyReply | None:
        opening, closing = self._frame(tokens, room)
        count = self.io.count
        space = room - count(opening) - count(closing)
        reply: StrategyReply | None = None
        for piece in _pieces(entries, space, tokens, self.calls, count):
            earlier = f"{_heading('earlier summary')}{reply.text}\n" if reply else ""
            content = clip(f"{earlier}{piece}", space, count)
            if not content:
                return None
            message = Message(role="user", content=f"{opening}{content}{closing}")
            reply = await self.io.model([message], max_tokens=tokens, trainable=self.trainable)
            if reply.finish_reason == "abort" or not reply.text.strip():
                return None
        return reply

    def _frame(self, tokens: int, room: int) -> tuple[str, str]:
        """Return what stands before and after the conversation in a prompt."""
        count = self.io.count
        instructions = self.instructions if count(self.instructions) <= room // 2 else _BRIEF
        task = clip(self.task, room // 8, count)
        opening = f"{instructions}\n\n{_heading('the task')}{task}\n\n" if task else f"{instructions}\n\n"
        return opening, f"\n{_heading('end of the conversation')}Write the summary now, in at most {tokens} tokens."


def _pieces(
    entries: Sequence[LogEntry], space: int, summary: int, calls: int, count: Callable[[str], int]
) -> Iterator[str]:
    """Return the entries as texts that fit into prompts, with room for the summary of what came before."""
    texts = [f"{_heading(_speaker(entry))}{entry.original or entry.message.content}\n" for entry in entries]
    sizes = [count(text) for text in texts]
    if sum(sizes) <= space or calls == 1:
        yield "".join(_cut(entries, texts, sizes, space, space, count))
        return
    within = space - summary - _FRAME
    # No part is greater than a quarter of a piece, so that each piece but the last is filled to three quarters.
    piece, filled = "", 0
    for part in _cut(entries, texts, sizes, calls * within * 3 // 4, within // 4, count):
        size = count(part)
        if piece and filled + size > within:
            yield piece
            piece, filled = "", 0
        piece, filled = piece + part, filled + size
    yield piece


def _cut(
    entries: Sequence[LogEntry],
    texts: Sequence[str],
    sizes: Sequence[int],
    room: int,
    most: int,
    count: Callable[[str], int],
) -> list[str]:
    """Return the texts, each of at most `most` tokens and together of at most `room`; summaries are cut last."""
    kept = list(range(len(texts)))
    while True:
        earlier = sum(sizes[index] for index in kept if entries[index].summary)
        others = [sizes[index] for index in kept if not entries[index].summary]
        cap = level(others, room - earlier)
        if not others or cap >= min(_LEAST, max(others)):
            break
        oldest = [index for index in kept if not entries[index].summary]
        gone = set(oldest[: max(1, len(oldest) // 8)])
        kept = [index for index in kept if index not in gone]
    return [clip(texts[index], most if entries[index].summary else min(cap, most), count) for index in kept]


def _speaker(entry: LogEntry) -> str:
    if entry.summary:
        return "earlier summary"
    return {"assistant": "you", "tool": "result"}.get(entry.message.role, entry.message.role)


def _heading(title: str) -> str:
    return f"=== {title} ===\n"
