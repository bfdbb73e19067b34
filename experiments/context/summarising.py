"""The scripted summariser: what a strategy that asks the model is told; a pure function of its prompt, and lossy.

It keeps the goal, what the user said, and of all else that the prompt tells the facts that were told last, so many as
it is set to and as its token limit allows. What a model would keep instead is not known to it.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from experiments.context.grammar import Fact, facts_in
from experiments.context.reading import Knowledge, done_by_calls

from tumbler.contracts.values import Message

__all__ = ["Summariser", "is_asked_to_sum_up"]

_LIMIT: Final = re.compile(r"Write the summary now, in at most (\d+) tokens\.\Z")
_HAND_OFF: Final = "Write the note only, and call no tool."
_ENTRY: Final = re.compile(r"^=== ([a-z ]+) ===\n", re.MULTILINE)
_GOAL: Final = "Goal: do what the last line that begins with 'Now' asks for."
_USER: Final = "The user said: "
_NOTE_TOKENS: Final = 256


def is_asked_to_sum_up(messages: Sequence[Message]) -> bool:
    """Return whether the last message asks for a summary or a hand-off note."""
    last = messages[-1].content
    return _LIMIT.search(last) is not None or last.endswith(_HAND_OFF)


@dataclass(frozen=True, kw_only=True)
class Summariser:
    """Sums up; `facts` is how many facts it keeps besides what the user said."""

    facts: int
    count: Callable[[str], int]

    def write(self, messages: Sequence[Message]) -> str:
        """Return the summary that the prompt asks for."""
        match = _LIMIT.search(messages[-1].content)
        limit = int(match[1]) if match else _NOTE_TOKENS
        rules: Knowledge = {}
        found: Knowledge = {}
        for speaker, text in _entries(messages[-1].content) if match else _turns(messages):
            for fact, said_by_user in _told(speaker, text):
                into = rules if said_by_user else found
                into.pop(fact.key, None)
                into[fact.key] = fact
        kept = list(found.values())[-self.facts :]
        text = _written(rules, kept)
        while kept and self.count(text) > limit:
            kept = kept[1:]
            text = _written(rules, kept)
        return text


def _written(rules: Knowledge, facts: Sequence[Fact]) -> str:
    lines = [_GOAL, *(f"{_USER}{rule}" for rule in rules.values()), *map(str, facts)]
    return "\n".join(lines)


def _entries(prompt: str) -> Iterator[tuple[str, str]]:
    """Return who speaks and what, from a conversation that is written out in one message."""
    pieces = _ENTRY.split(prompt)
    return zip(pieces[1::2], pieces[2::2], strict=True)


def _turns(messages: Sequence[Message]) -> Iterator[tuple[str, str]]:
    """Return who speaks and what, from a conversation that goes on as it was."""
    return (("you" if each.role == "assistant" else each.role, each.content) for each in messages[1:])


def _told(speaker: str, text: str) -> Iterator[tuple[Fact, bool]]:
    """Return the facts of an entry, and whether they are the user's."""
    if speaker == "you":
        yield from ((fact, False) for fact in done_by_calls(text))
    # A result is shown in the user's role too, and so is an earlier summary, which begins with the goal.
    said_by_user = speaker == "user" and "<tool_response>" not in text and _GOAL not in text
    for line in text.splitlines():
        yield from ((fact, said_by_user or line.startswith(_USER)) for fact in facts_in(line))
