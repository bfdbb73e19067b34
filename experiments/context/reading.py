"""What a prompt says, read by the fixed grammar: the only thing that the scripted policy goes by."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from experiments.context.grammar import ORDER, REMEMBERED, Fact, facts_in, request_in

from tumbler.contracts.values import Message

__all__ = ["Knowledge", "Seen", "done_by_calls", "own_text", "read_prompt"]

Knowledge = dict[tuple[str, str], Fact]
"""What is known, by key; the fact that was told last stands last."""

_BLOCK: Final = re.compile(
    r"(?:\A|\n\n)(?=Your notes;|# Memory|## Saved so far|Your plan, |Result of branch |Branch \d+ is open"
    r"|Long outputs in files|\[Earlier passages)"
)
_EARLIER: Final = "[Earlier passages"
_TOOL: Final = re.compile(r'"function": \{"name": "([\w-]+)"')
_DONE: Final = re.compile(r'"name": "(ship|inspect)", "arguments": \{"subject": "([a-z0-9-]+)"\}')
_STATES: Final = {"ship": "shipped", "inspect": "inspected"}
_ITEM: Final = re.compile(r"^\[([ >x])\] (ship|inspect) ([a-z0-9-]+)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a prompt says."""

    messages: Sequence[Message]
    tools: frozenset[str]
    known: Knowledge
    kept: frozenset[str]
    """The sentences that notes and memory hold, as far as the prompt shows it."""
    request: str | None
    """What is asked for, where the prompt says it."""
    after: Sequence[Message]
    """The messages after the one that holds the request."""
    newest: Knowledge
    """What the messages after the last reply tell."""

    def called(self, name: str) -> bool:
        """Return whether a tool was called after the request was made."""
        return any(each.role == "assistant" and f'"name": "{name}"' in each.content for each in self.after)

    @property
    def refused(self) -> bool:
        """Return whether a call went wrong after the request was made."""
        return any(each.role != "assistant" and "error:" in each.content for each in self.after)

    def shows(self, text: str) -> bool:
        """Return whether a message that is not the policy's holds the text."""
        return any(each.role != "assistant" and text in each.content for each in self.messages)


def read_prompt(messages: Sequence[Message]) -> Seen:
    """Read a prompt, whose first message is the system's."""
    talk = messages[1:]
    place = next((i for i in reversed(range(len(talk))) if _request(talk[i]) is not None), None)
    last = max((i for i, each in enumerate(talk) if each.role == "assistant"), default=-1)
    return Seen(
        messages=talk,
        tools=frozenset(_TOOL.findall(messages[0].content)) if messages else frozenset(),
        known=_known(talk),
        kept=frozenset(_kept(talk)),
        request=None if place is None else _request(talk[place]),
        after=[] if place is None else talk[place + 1 :],
        newest=_told(own_text(each) for each in talk[last + 1 :]),
    )


def own_text(message: Message) -> str:
    """Return what a message said before a strategy added to it; nothing where all of it is a strategy's."""
    return _blocks(message.content)[0]


@lru_cache(maxsize=REMEMBERED)
def done_by_calls(text: str) -> tuple[Fact, ...]:
    """Return what a reply's calls do, as facts."""
    return tuple(Fact("state", match[2], _STATES[match[1]]) for match in _DONE.finditer(text))


@lru_cache(maxsize=REMEMBERED)
def _blocks(text: str) -> tuple[str, ...]:
    """Return what a message says itself, and each block that a strategy has added."""
    return tuple(_BLOCK.split(text))


def _request(message: Message) -> str | None:
    return None if message.role == "assistant" else request_in(own_text(message))


def _known(messages: Sequence[Message]) -> Knowledge:
    """Return what all messages tell: what was fetched from earlier comes first, what they say themselves last."""
    known: Knowledge = {}
    split = [_blocks(message.content) for message in messages]
    for _, *blocks in split:
        for block in blocks:
            if block.startswith(_EARLIER):
                _learn(known, facts_in(block))
    for message, (own, *blocks) in zip(messages, split, strict=True):
        for block in blocks:
            if not block.startswith(_EARLIER):
                _learn(known, _told_by_plan(block))
                _learn(known, facts_in(block))
        _learn(known, done_by_calls(own) if message.role == "assistant" else _told_by_plan(own))
        _learn(known, facts_in(own))
    return known


def _told(texts: Iterator[str]) -> Knowledge:
    known: Knowledge = {}
    for text in texts:
        _learn(known, facts_in(text))
    return known


def _learn(known: Knowledge, facts: Iterable[Fact]) -> None:
    for fact in facts:
        known.pop(fact.key, None)
        known[fact.key] = fact


@lru_cache(maxsize=REMEMBERED)
def _told_by_plan(text: str) -> tuple[Fact, ...]:
    """Return what a list of things to do tells: the order of sites, and what is done."""
    items = _ITEM.findall(text)
    sites = [subject for _, action, subject in items if action == "inspect"]
    order = [Fact(*ORDER, ", ".join(sites))] if sites else []
    return (*order, *(Fact("state", subject, _STATES[action]) for mark, action, subject in items if mark == "x"))


def _kept(messages: Sequence[Message]) -> Iterator[str]:
    for message in messages:
        own, *blocks = _blocks(message.content)
        texts = [block for block in blocks if not block.startswith((_EARLIER, "Result of branch"))]
        if message.role == "assistant" and ('"note_write"' in own or '"save_memory"' in own):
            texts.append(own)
        for text in texts:
            yield from (str(fact) for fact in facts_in(text))
