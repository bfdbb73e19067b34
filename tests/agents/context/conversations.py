"""Conversations for the tests of context strategies: views by hand, an io without a model, and ragged ones to draw."""

import re
from dataclasses import replace
from random import Random

from hypothesis import strategies as draw

from tumbler.contracts.context import Budget, LogEntry, StrategyReply, View
from tumbler.contracts.values import Message
from tumbler.errors import ContextOverflowError, InferenceError
from tumbler.rollout.context import NamedStrategy, StrategyPipeline
from tumbler.rollout.context.files import TextFiles
from tumbler.testing import CharacterTokenizer, sample_task

FRAME = 5


def count_words(text):
    """Count words, and other characters one by one: unlike characters, tokens of very different lengths."""
    return len(re.findall(r"\w+|\W", text))


class FolderFiles(TextFiles):
    """Files that an agent could read in a sandbox."""

    folder = "/tmp/context"

    async def write(self, name, text):
        return f"{self.folder}/{await super().write(name, text)}"


class FakeIO:
    """Counts words, keeps files, and says what it is told to say."""

    def __init__(self, *replies, files=None, count=count_words):
        self.replies = list(replies)
        self.files = files or TextFiles()
        self.count = count
        self.asked = []

    async def model(self, messages, *, role="summarizer", max_tokens=None, trainable=True):
        self.asked.append((list(messages), max_tokens, trainable))
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply if isinstance(reply, StrategyReply) else StrategyReply(text=reply, call=len(self.asked))


class Talk:
    """Builds a view, entry by entry."""

    def __init__(self, io=None, *, task="Count the sheep."):
        self.io = io or FakeIO()
        self.entries = []
        self.exchange = 0
        self._next = 0
        self.add("system", "Be brief.", pinned=True, shown=True)
        self.add("user", task, pinned=True, shown=True)

    def add(self, role, content, **fields):
        tokens = self.io.count(content) + FRAME
        entry = LogEntry(id=self._next, message=Message(role=role, content=content), tokens=tokens, **fields)
        self._next += 1
        self.entries.append(entry)
        return entry

    def turn(self, reply, *outputs, shown=True, pending=False):
        self.exchange += 1
        calls = tuple(f"{self.exchange}-{index}" for index in range(len(outputs) + pending))
        self.add("assistant", reply, sampled=True, exchange=self.exchange, calls=calls, shown=shown)
        answers = zip(calls, outputs, strict=False)
        return [self.add("user", text, exchange=self.exchange, answers=call, shown=shown) for call, text in answers]

    def say(self, text, *, shown=True):
        return self.add("user", text, shown=shown)

    @property
    def view(self):
        return View(entries=tuple(self.entries), io=self.io)

    @property
    def used(self):
        return sum(entry.tokens for entry in self.entries)

    def budget(self, limit=10_000, clear_at_least=0):
        return Budget(limit=limit, used=self.used, clear_at_least=clear_at_least)


async def plan(strategy, talk, *, limit=10_000, state=None, why="turn_end", clear_at_least=0):
    state = strategy.start(sample_task(), Random(0)) if state is None else state
    planned = await strategy.plan(talk.view, talk.budget(limit, clear_at_least), state, why)
    return list(planned.edits)


def pipeline(*strategies, context=1000, model=None, files=None):
    return StrategyPipeline(
        [NamedStrategy(name=type(each).__name__, strategy=each) for each in strategies],
        CharacterTokenizer(context),
        room=100,
        task=sample_task(),
        seed=0,
        model=model,
        files=files,
    )


words = draw.sampled_from(
    [
        "",
        "ok",
        "\n",
        "[3 earlier steps left out]",
        "[old output left out: 9 tokens]",
        "<tool_response>\nfile\n</tool_response>",
        "héllo wörld 👩‍👩‍👧 e\u0301",
        "数える羊の数",
        "line one\nline two\nline three\n",
        "x" * 70,
        "a b c d e f g h i j k l m n o p q r s t u v w x y z\n" * 8,
        "y" * 1500,
        "\r\n\t\x00\x1b[31m",
        "\u200d" * 40,
        "lone \ud800 surrogate",
        "<tool_call>" * 40,
        "</think>",
        "error: [Errno 2] no such file\n" * 9,
    ]
)
texts = draw.lists(words, min_size=1, max_size=3).map("".join)
turns = draw.tuples(draw.just("turn"), words, draw.lists(texts, max_size=3))
events = draw.lists(
    draw.one_of(
        turns,
        turns,
        turns,
        draw.tuples(draw.just("plain"), words, texts),
        draw.tuples(draw.just("user"), texts),
        draw.tuples(draw.just("open"), words, texts),
        draw.tuples(draw.just("turn"), words, words.map(lambda output: [output] * 100)),
        draw.tuples(draw.just("request")),
    ),
    max_size=25,
)
openings = draw.sampled_from(["Count.", "Count the sheep. " * 20, "z" * 1200])


async def live(talk, opening, happenings):
    """Let a conversation happen; return the views, up to the prompt that does not fit."""
    talk.append(Message(role="system", content="Be brief."), pinned=True)
    talk.append(Message(role="user", content=opening), pinned=True)
    views = []
    for number, (kind, *parts) in enumerate([("user", "Go on."), *happenings]):
        try:
            await _happen(talk, number, kind, parts, views)
            views.append(list(await talk.messages()))
        except ContextOverflowError:
            return views
    return views


async def _happen(talk, number, kind, parts, views):
    if kind == "user":
        talk.append(Message(role="user", content=parts[0]))
    elif kind == "plain":
        talk.append(Message(role="assistant", content=parts[0]), sampled=True)
        talk.append(Message(role="user", content=parts[1]))
    elif kind == "request":
        talk.request("user_request")
    elif kind == "turn":
        calls = [f"{number}-{index}" for index in range(len(parts[1]))]
        talk.append(Message(role="assistant", content=parts[0]), sampled=True, calls=calls)
        for call, output in zip(calls, parts[1], strict=True):
            talk.append(Message(role="user", content=output), answers=call)
    else:
        talk.append(Message(role="assistant", content=parts[0]), sampled=True, calls=[f"{number}-a", f"{number}-b"])
        talk.append(Message(role="user", content=parts[1]), answers=f"{number}-a")
        views.append(list(await talk.messages()))
        talk.append(Message(role="user", content="late"), answers=f"{number}-b")


def least(entries):
    """Return the tokens of what can never be left out: pinned entries and the newest exchange."""
    newest = max((entry.exchange for entry in entries if entry.exchange is not None), default=None)
    kept = (e for e in entries if e.pinned or (newest is not None and e.exchange == newest))
    return sum(entry.tokens for entry in kept) + len("assistant\n")


def prompts(happenings):
    """Return how many prompts a conversation makes if all of them fit."""
    return 1 + sum(2 if kind == "open" else 1 for kind, *_ in happenings)


def refused_as_a_rewrite(talk):
    """Return whether the pipeline did not let a strategy rewrite what had been shown."""
    return bool(talk.refusals) and talk.refusals[-1].check in ("in-a-row", "progress")


def as_summary(entry):
    return replace(entry, summary=True, exchange=None)


FAILED = InferenceError("the engine is gone")
TOO_LONG = ContextOverflowError("send fewer")
