"""The contract of context strategies as tests, through the pipeline that the core itself uses."""

import json
from collections.abc import Sequence
from itertools import pairwise
from random import Random

import pytest

from tumbler.contracts.agent import Reply
from tumbler.contracts.context import Budget, ContextStrategy, LogEntry, Plan, State, StrategyCaps, View
from tumbler.contracts.values import Message
from tumbler.errors import ContextOverflowError
from tumbler.rollout.context import NamedStrategy, StrategyPipeline
from tumbler.testing.fakes import CharacterTokenizer
from tumbler.testing.samples import sample_task
from tumbler.testing.suite import ContractSuite, asynchronous

__all__ = ["ContextStrategySuite"]

_CONTEXT, _ROOM = 2000, 100
_SHORT, _LONG = 8, 60
"""Turns of a conversation that fits the context, and of one that does not."""


class ContextStrategySuite(ContractSuite):
    """Subclass it with the fixture `strategy`. A model that a strategy asks answers in few words."""

    @pytest.fixture
    def strategy(self) -> ContextStrategy:
        """Override: return the strategy."""
        raise NotImplementedError("define the fixture strategy: the context strategy to test")

    def test_it_says_what_it_promises(self, strategy: ContextStrategy) -> None:
        """`caps` are there before any episode."""
        assert isinstance(strategy.caps, StrategyCaps)

    def test_its_state_is_json_and_depends_on_the_seed_alone(self, strategy: ContextStrategy) -> None:
        """A state can be checkpointed."""
        once, again = [strategy.start(sample_task(), Random(3)) for _ in range(2)]
        assert once == again, "equal seeds gave other states"
        assert json.loads(json.dumps(once)) == once, "the state does not survive JSON"
        assert once is not again, "two episodes share one state"

    @asynchronous
    async def test_an_empty_conversation_is_left_alone(self, strategy: ContextStrategy) -> None:
        """There is nothing to edit."""
        assert list(await _pipeline(strategy).messages()) == []

    @asynchronous
    async def test_its_edits_can_be_carried_out(self, strategy: ContextStrategy) -> None:
        """They name entries that are in view and not pinned; the pipeline refuses any other."""
        views = await _talk(strategy, _LONG)
        for view in views:
            assert list(view[:2]) == _opening(), "system message and task must stay as they are"

    @asynchronous
    async def test_its_state_stays_json(self, strategy: ContextStrategy) -> None:
        """After any number of turns."""
        pipeline = _pipeline(strategy)
        await _turns(pipeline, _SHORT)
        assert "0:strategy" in pipeline.snapshot()

    @asynchronous
    async def test_a_deterministic_strategy_repeats_itself(self, strategy: ContextStrategy) -> None:
        """Rollouts from an anchor must see what the expert saw."""
        if not strategy.caps.deterministic:
            pytest.skip("the strategy does not claim to be deterministic")
        assert await _talk(strategy, _LONG) == await _talk(strategy, _LONG), "the same conversation was shown otherwise"

    @asynchronous
    async def test_a_strategy_that_never_rewrites_only_lets_the_view_grow(self, strategy: ContextStrategy) -> None:
        """Caches and training segments are kept by it."""
        views = await _talk(strategy, _SHORT)
        for before, after in pairwise(views):
            # One that rewrites may change anything but system message and task.
            kept = len(before) if strategy.caps.rewrites == "never" else len(_opening())
            assert list(after[:kept]) == list(before[:kept]), "a view does not extend the one before it"

    @asynchronous
    async def test_a_bounded_strategy_never_overflows(self, strategy: ContextStrategy) -> None:
        """However long the conversation is; that of any other strategy overflows in the pipeline, not in an error."""
        views = await _talk(strategy, _LONG)
        assert views, "not even the first turn fits the context"
        if strategy.caps.bounded:
            assert len(views) == _LONG, f"the conversation overflowed after {len(views)} turns"

    @asynchronous
    async def test_an_instance_keeps_no_state(self, strategy: ContextStrategy) -> None:
        """One instance serves all episodes at once."""
        if not strategy.caps.deterministic:
            pytest.skip("the strategy does not claim to be deterministic")
        alone = await _talk(strategy, _SHORT)
        first, second = _pipeline(strategy), _pipeline(strategy)
        mixed = []
        for turn in range(_SHORT):
            mixed += await _turns(first, 1, start=turn)
            await _turns(second, 1, start=turn + 1)
        assert mixed == alone, "an episode was shown otherwise because a second one ran beside it"

    @asynchronous
    async def test_a_saved_state_goes_on_as_before(self, strategy: ContextStrategy) -> None:
        """What a strategy remembers is in its state, nowhere else."""
        if not strategy.caps.deterministic:
            pytest.skip("the strategy does not claim to be deterministic")
        state = strategy.start(sample_task(), Random(0))
        await _plan(strategy, state, turns=4)
        saved: State = json.loads(json.dumps(state))
        assert await _plan(strategy, state, turns=6) == await _plan(strategy, saved, turns=6), "a saved state forgot"


def _opening() -> list[Message]:
    return [Message(role="system", content="Be brief."), Message(role="user", content="Count.")]


def _pipeline(strategy: ContextStrategy) -> StrategyPipeline:
    return StrategyPipeline(
        [NamedStrategy(name="strategy", strategy=strategy)],
        CharacterTokenizer(_CONTEXT),
        room=_ROOM,
        task=sample_task(),
        seed=0,
        model=_Summarizer(),
    )


class _Summarizer:
    """A model that sums up in few words, always the same for the same messages."""

    async def __call__(
        self, messages: Sequence[Message], *, agent_id: str, max_tokens: int | None, trainable: bool
    ) -> Reply:
        length = sum(len(message.content) for message in messages)
        text = f"{len(messages)} messages of {length} characters"[:max_tokens]
        return Reply(text=text, finish_reason="stop", chunk=length)


async def _talk(strategy: ContextStrategy, turns: int) -> list[Sequence[Message]]:
    """Return what the model sees in each turn, until the conversation no longer fits."""
    return await _turns(_pipeline(strategy), turns)


async def _turns(pipeline: StrategyPipeline, turns: int, *, start: int = 0) -> list[Sequence[Message]]:
    views: list[Sequence[Message]] = []
    for turn in range(start, start + turns):
        if turn == start and not await pipeline.messages():
            for message in _opening():
                pipeline.append(message, pinned=True)
        try:
            views.append(list(await pipeline.messages()))
        except ContextOverflowError:
            return views
        pipeline.append(Message(role="assistant", content=f"step {turn}"), sampled=True)
        pipeline.append(Message(role="user", content=f"observation {turn} " + "x" * 50))
    return views


async def _plan(strategy: ContextStrategy, state: State, *, turns: int) -> Plan:
    """Return the plan for a conversation of so many turns."""
    messages = [*_opening(), *(Message(role="user", content=f"observation {turn}") for turn in range(turns))]
    entries = tuple(
        LogEntry(id=index, message=message, tokens=len(message.content), pinned=index < 2)
        for index, message in enumerate(messages)
    )
    used = sum(entry.tokens for entry in entries)
    return await strategy.plan(View(entries=entries), Budget(limit=_CONTEXT, used=used), state, "turn_end")
