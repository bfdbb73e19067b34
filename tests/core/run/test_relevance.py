"""Which turns of a demonstration the rules of relevance leave out."""

from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumbler.contracts.values import ToolCall
from tumbler.run.relevance import RELEVANCE_RULES, RelevanceRule, relevant_chunks
from tumbler.testing.samples import sample_trajectory
from tumbler.trajectory import Segment, Trajectory, verify_trajectory


def trajectory(*turns: str, rewards: dict[int, float] | None = None, success: bool = True) -> Trajectory:
    """Return an expert's episode; a turn is "call>answer", and "" calls nothing."""
    record = sample_trajectory(turns=len(turns), expert=True, reward=1.0 if success else 0.0)
    chunks = []
    for index, (turn, chunk) in enumerate(zip(turns, record.chunks, strict=True)):
        call, _, answer = turn.partition(">")
        calls = (ToolCall(name="shell", arguments={"command": call}),) if call else ()
        reward = (rewards or {}).get(index, 0.0)
        chunks.append(replace(chunk, tool_calls=calls, observation=answer, reward=reward))
    return replace(record, chunks=tuple(chunks))


def detours(record: Trajectory, *rules: RelevanceRule) -> list[int]:
    """Return which turns are left out, after making sure that nothing else has changed."""
    marked = relevant_chunks(record, rules)
    verify_trajectory(marked)
    assert replace(marked, chunks=()) == replace(record, chunks=())
    as_before = [replace(new, relevant=old.relevant) for new, old in zip(marked.chunks, record.chunks, strict=True)]
    assert tuple(as_before) == record.chunks
    return [index for index, chunk in enumerate(marked.chunks) if not chunk.relevant]


@pytest.mark.parametrize(
    ("rule", "turns", "expected"),
    [
        ("repeated-call", ["a>1", "b>2", "a>1", "a>1", "c>3"], [2, 3]),
        ("repeated-call", ["a>1", "a>2", "b>1", "c>3"], []),
        ("repeated-call", ["a>", "a>", "", "", "c>3"], []),
        ("no-effect", ["a>1", "b>1", "c>1", "d>2", "e>1", "f>3"], [1, 2]),
        ("no-effect", ["a>", "b>", "", "c>1", "", "d>1", "e>2"], []),
        ("undone", ["a>1", "b>2", "c>3", "d>2", "e>4", "f>5"], [2, 3]),
        ("undone", ["a>1", "b>2", "c>3", "d>1", "e>2", "f>4"], [1, 2, 3]),
        ("undone", ["a>1", "b>", "", "c>1", "d>", "e>2"], [1, 2, 3]),
        ("undone", ["a>", "b>", "", "", "e>2"], []),
        ("undone", ["a>1", "b>1", "c>2"], [1]),
    ],
)
def test_each_rule_finds_its_turns_and_no_other(rule, turns, expected):
    assert detours(trajectory(*turns), rule) == expected


def test_turns_after_the_last_reward_of_a_solved_task_are_left_out_but_for_the_end():
    turns = ["a>1", "b>2", "c>3", "d>4", "e>5"]
    assert detours(trajectory(*turns, rewards={0: 0.5, 1: 1.0}), "after-success") == [2, 3]
    assert detours(trajectory(*turns, rewards={1: 1.0}, success=False), "after-success") == []
    assert detours(trajectory(*turns), "after-success") == []


@pytest.mark.parametrize("rule", ["repeated-call", "no-effect", "undone"])
def test_the_last_turn_and_rewarded_turns_are_always_relevant(rule):
    turns = ["a>1", "a>1", "a>1", "a>1"]
    assert detours(trajectory(*turns), rule) == [1, 2]
    assert detours(trajectory(*turns, rewards={1: 1.0}), rule) == [2]


def test_a_loop_on_which_something_was_earned_is_no_detour_but_later_ones_are():
    turns = ["a>1", "b>2", "c>1", "d>3", "e>1", "f>4"]
    assert detours(trajectory(*turns, rewards={1: 0.5}), "undone") == [3, 4]


def test_agents_are_judged_by_their_own_turns():
    record = trajectory("a>1", "a>1", "b>2", "c>3")
    own, other = record.chunks[:1], [replace(each, segment=1) for each in record.chunks[1:]]
    segments = (
        record.segments[0],
        Segment(id=1, token_ids=record.segments[0].token_ids, cause="sub-agent", agent_id="helper"),
    )
    record = replace(record, segments=segments, chunks=(*own, *other))
    for rule in get_args(RelevanceRule):
        assert detours(record, rule) == []


def test_rules_add_up_and_to_what_is_marked_already():
    record = trajectory("a>1", "b>2", "a>1", "c>5", "d>5", "e>6")
    marked = replace(record, chunks=(replace(record.chunks[0], relevant=False), *record.chunks[1:]))
    assert detours(marked) == [0]
    assert detours(marked, "repeated-call", "no-effect") == [0, 2, 4]


def test_every_rule_that_can_be_named_is_there():
    assert set(RELEVANCE_RULES) == set(get_args(RelevanceRule))


@given(st.lists(st.sampled_from(["a>1", "b>1", "a>2", "b>3", "c>4", "d>", ""]), min_size=1, max_size=12))
def test_what_is_left_has_no_loop_and_no_rule_finds_more_in_it_than_undone_does(turns):
    record = trajectory(*turns)
    left_out = set(detours(record, "undone"))
    answers = [turn.partition(">")[2] for index, turn in enumerate(turns[:-1]) if index not in left_out]
    shown = [answer for answer in answers if answer]
    assert len(shown) == len(set(shown))
    assert set(detours(record, "no-effect")) <= left_out
